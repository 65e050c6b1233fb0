"""A client of a few dozen lines: HTTP/1.1 over asyncio, whole answers and server-sent events.

A load test shares two cores with the server that it measures, and a general client costs more CPU per event than the
server does. This one reads what the server sends, and nothing else.

    async with Client("127.0.0.1", 8080) as client: status, body = await client.call("POST", "/generate", b"{...}")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

JSON = {"content-type": "application/json"}


class Client:
    """One connection, one request at a time; connects with its first request.

    ``authority`` is the Host that the requests name, where it is another than the address: behind a gateway. Bodies are
    sent in chunks if ``chunked``: a proxy made with Go's net/http may cut the answer to another one (k8s/README.md).
    """

    def __init__(self, host: str, port: int, authority: str = "", chunked: bool = False) -> None:
        self.host, self.port, self.chunked = host, port, chunked
        self.authority = authority or f"{host}:{port}"
        self.headers: dict[bytes, bytes] = {}
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.abort()

    def abort(self) -> None:
        """Leave, in the middle of an answer too."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = JSON
    ) -> tuple[int, bytes]:
        """Status and body of a whole answer.

        Raises:
            ConnectionError: when the server closes the connection in the middle.
        """
        status = await self.send(method, path, body, headers)
        return status, b"".join([part async for part in self.parts()])

    async def events(self, path: str, body: bytes, headers: Mapping[str, str] = JSON) -> AsyncIterator[bytes]:
        """The data of each server-sent event.

        Raises:
            StatusError: when the answer is none of 200.
            ConnectionError: when the stream breaks off.
        """
        status = await self.send("POST", path, body, headers)
        if status != 200:
            raise StatusError(status, b"".join([part async for part in self.parts()]))
        rest = b""
        async for part in self.parts():
            *lines, rest = (rest + part).split(b"\n\n")
            for line in lines:
                yield line.removeprefix(b"data: ")

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = JSON) -> int:
        """Send a request and read the head of the answer; its status."""
        if self._reader is not None and self._reader.at_eof():
            self.abort()  # the server has closed it in between, as it may
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        assert self._reader is not None
        length = f"content-length: {len(body)}"
        if self.chunked and body:
            length, body = "transfer-encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.authority}", length]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the server closed the connection before it answered") from error
        first, *fields = head[:-4].split(b"\r\n")
        self.headers = {}
        for field in fields:
            name, _, value = field.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        return int(first.split(b" ", 2)[1])

    async def parts(self) -> AsyncIterator[bytes]:
        """The body of the answer as it comes, to its end."""
        assert self._reader is not None
        try:
            if self.headers.get(b"transfer-encoding") == b"chunked":
                while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await self._reader.readexactly(size + 2))[:-2]
                await self._reader.readexactly(2)
            elif length := int(self.headers.get(b"content-length", b"0")):
                yield await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the server closed the connection in the middle of its answer") from error
        if self.headers.get(b"connection", b"").lower() == b"close":
            self.abort()


async def get_json(host: str, port: int, path: str) -> Any:
    """What a GET answers, parsed.

    Raises:
        StatusError: when the answer is none of 200.
    """
    async with Client(host, port) as client:
        status, body = await client.call("GET", path)
        if status != 200:
            raise StatusError(status, body)
        return json.loads(body)


class StatusError(Exception):
    """An answer that is not the wanted one."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:300].decode('utf-8', 'replace')}")
        self.status = status
