"""HTTP connections as uvicorn keeps them, with the limits that it lacks: how long and how large a request may arrive.

By itself uvicorn waits for ever for the rest of a request, or for a first one, and keeps headers of any size; its one
limit, on idle connections, begins with an answer and ends with the next byte.

    uvicorn.Config(app, http=partial(Connection, receive_timeout=30.0))
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

log = logging.getLogger("serving.connection")
# Bytes that may follow one another and be no part of a body, beyond the packet in which a request begins; as h11's.
MAX_HEAD = 1 << 16


class Connection(HttpToolsProtocol):
    """One HTTP connection.

    A head must be complete ``receive_timeout`` seconds after its first byte, a body as long after its head; single
    bytes gain no time. A connection on which an answer is being made or sent is left alone: for a body that an answer
    waits for, ``read_body`` has the same limit, and the words.
    """

    def __init__(self, *args: Any, receive_timeout: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._receive_timeout = receive_timeout
        self._waiting: asyncio.TimerHandle | None = None  # for the rest of a request
        self._head = 0  # bytes since a request or a part of its body began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as an idle connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        idle = self.timeout_keep_alive
        self.timeout_keep_alive_task = self.loop.call_later(idle, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._wait(False)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; from the first byte on the rest is waited for."""
        self._unset_keepalive_if_required()
        if self._waiting is None:
            self._wait()
        self._head += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._refuse(400, "the request is not valid HTTP")
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, f"headers: larger than {MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._wait()
        self._head = 0

    def on_headers_complete(self) -> None:
        """Its head is there; one that asks for another protocol will be read again."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        self._wait()
        self._head = 0

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        super().on_body(body)
        self._head = 0

    def on_message_complete(self) -> None:
        """All of it is there."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._wait(False)
            self._head = 0

    def on_response_complete(self) -> None:
        """An answer was sent; a request that has begun meanwhile has its time from now on."""
        super().on_response_complete()
        if self._waiting is not None:
            self._wait()

    def _parse(self, data: memoryview) -> None:
        """Call the methods above for all of ``data``.

        Java's client offers HTTP/2 with every request, and the parser then takes a body for the other protocol's first
        words: uvicorn answers as if it were empty (its issue 2722). Such a request is read again without the offer.

        Raises:
            HttpParserError: when it is no HTTP, or for a proxy.
        """
        while data:
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as end_of_head:
                method, version = self.parser.get_method(), self.parser.get_http_version().encode()
                if method == b"CONNECT":
                    raise httptools.HttpParserError("a server is no proxy") from None
                fields = b"".join(b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade")
                head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, fields)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)
                data = data[end_of_head.args[0] :]

    def _wait(self, wait: bool = True) -> None:
        """Start to wait anew, or stop waiting."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(self._receive_timeout, self._overdue) if wait else None

    def _overdue(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()
            return
        log.info("a connection is closed: its request was not complete after %g seconds", self._receive_timeout)
        self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer, unless that would fall into another answer, and close."""
        log.info("a connection is closed: %s", sentence)
        cycle = self.cycle
        if not self.pipeline and (cycle is None or not cycle.response_started or cycle.response_complete):
            body = orjson.dumps({"error": sentence})
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
