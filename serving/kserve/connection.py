"""HTTP connections as uvicorn keeps them, with the limits that it lacks: how long and how large a request may arrive,
how long an answer may wait to be read, and how many requests may wait for theirs.

By itself uvicorn waits for ever for the rest of a request, for a first one, or for a client to read, and keeps headers
of any size; its one limit, on idle connections, begins with an answer and ends with the next byte.

    uvicorn.Config(app, http=partial(Connection, service=service))
"""

import asyncio
import logging
import socket
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving.connection")
# Bytes that may follow one another and be no part of a body, beyond the packet in which a request begins; as h11's.
MAX_HEAD = 1 << 16
# The parser makes requests of all bytes that it is given, each a hundred times its size: it gets this many at a time,
# and the next when all of them are answered.
SLICE = 1 << 11
# Bytes of an answer that the system holds for a client, instead of megabytes that nobody here can see or bound.
SEND_BUFFER = 1 << 17
# Seconds without a call after which a server that is told to leave expects no more.
SETTLED = 1


class Connection(HttpToolsProtocol):
    """One HTTP connection.

    A head must be complete ``receive_timeout`` seconds after its first byte, a body as long after its head; single
    bytes gain no time. A connection on which an answer is being made or sent is left alone: for a body that an answer
    waits for, ``read_body`` has the same limit, and the words. From its last byte on ``request_timeout`` is the time
    of all of the answer, reading included; what has not been read then is dropped.

    While the server drains, every answer closes its connection, and open ones are still answered.
    """

    def __init__(self, *args: Any, service: TextService, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._service = service
        self._receive_timeout = service.config.receive_timeout
        self._answer_timeout = service.config.request_timeout + LAST_WORDS
        self._waiting: asyncio.TimerHandle | None = None  # for the rest of a request
        self._reading: asyncio.TimerHandle | None = None  # for an answer to be read
        self._head = 0  # bytes since a request or a part of its body began
        self._later = b""  # bytes that came behind requests without an answer
        self._untaken = False  # whether a whole answer waits to be read
        self._touched = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as an idle connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        idle = self.timeout_keep_alive
        self.timeout_keep_alive_task = self.loop.call_later(idle, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._wait(False)
        if self._reading is not None:
            self._reading.cancel()
        self._later = b""
        self._service.readers.discard(self)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; from the first byte on the rest is waited for."""
        if self._waiting is None:
            self._wait()
        self._later += data
        self._take()

    def _take(self) -> None:
        """Read what came, as far as a request that has to wait for its turn."""
        data, at = memoryview(self._later), 0
        self._unset_keepalive_if_required()
        while at < len(data) and not self.pipeline and not self._untaken and not self.transport.is_closing():
            part = data[at : at + SLICE]
            at += len(part)
            self._head += len(part)
            try:
                self._parse(part)
            except httptools.HttpParserError:
                self._refuse(400, "the request is not valid HTTP")
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self._refuse(431, f"headers: larger than {MAX_HEAD} bytes")
        self._later = bytes(data[at:])
        if self._later and not self.transport.is_closing():
            self.flow.pause_reading()

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
            if not self.pipeline:
                self._read_by()

    def on_response_complete(self) -> None:
        """An answer was sent; the next one is made when this one is taken. A request that has begun meanwhile has its
        time from now on.
        """
        self._touched = self.loop.time()
        if self in self._service.readers and not self.transport.is_closing():
            self._untaken = True
            self.flow.pause_reading()
            return
        super().on_response_complete()
        if self._waiting is not None:
            self._wait()
        if self._later:
            self._take()

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is made; it is made all the same."""
        self._service.readers.add(self)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._service.readers.discard(self)
        if self._untaken:
            self._untaken = False
            self.on_response_complete()

    def unread(self) -> int:
        """Bytes that were written and not taken yet."""
        return self.transport.get_write_buffer_size()

    def give_up(self, why: str) -> None:
        """Close at once, and drop what was not read."""
        log.info("a connection is closed, %d bytes of an answer are dropped: %s", self.unread(), why)
        self._service.metrics.refused("ReaderTooSlow")
        self.transport.abort()

    def drain(self) -> None:
        """Have the answer that is being made close the connection, unless its head is gone or another has to follow."""
        if self.cycle is not None and not self.cycle.response_started and not self.pipeline and not self._later:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close when nothing runs and nothing is on its way: a request may just have crossed the word that none may."""
        self.timeout_keep_alive = SETTLED
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.pipeline and not self._untaken and self._waiting is None:
            self._unset_keepalive_if_required()
            left = max(0.0, self._touched + SETTLED - self.loop.time())
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        self.drain()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._read_by()
        if self._service.draining:
            self.loop.call_soon(
                self.drain
            )  # before the answer begins, and after all that came with its request is read
        super()._start_asgi_task(cycle, app)

    def _read_by(self, seconds: float | None = None) -> None:
        """Give the answer its time, from now on."""
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_later(seconds or self._answer_timeout, self._overtime)

    def _overtime(self) -> None:
        self._reading = None
        if self.unread():
            self.give_up(f"its time, {self._answer_timeout - LAST_WORDS:g} seconds, is over")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._read_by(LAST_WORDS)  # its client is not behind; the answer's own time ends elsewhere

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
        if self._untaken or (self.cycle is not None and not self.cycle.response_complete):
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
