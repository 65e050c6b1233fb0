"""gRPC's connections whose clients take no answers: gRPC holds an answer, and a call, for as long as a client likes.

It has no time-out for that and closes no single call or connection when asked, so the socket is shut down under it. Nor
does it tell how many there are, or stop listening alone.
"""

import asyncio
import logging
import os
import socket
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from grpc import aio

from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving.rpc")
CALL_BYTES = 25_000  # what a call holds beside its answer, as measured


class Peers:
    """Who has been answered and has not taken it yet."""

    def __init__(self, service: TextService) -> None:
        self._service = service
        self._peers: dict[str, Peer] = {}

    def answered(self, context: aio.ServicerContext, size: int, arrived: float) -> None:
        """A call's answer of ``size`` bytes is made; ``arrived`` is the loop's time when it came."""
        name, readers = context.peer(), self._service.readers
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(name, self._service)
            readers.add(peer)
        due = arrived + self._service.config.request_timeout + LAST_WORDS
        timer = asyncio.get_running_loop().call_at(due, peer.give_up, "their time is over")
        peer.answers[timer] = CALL_BYTES + size

        def taken(_: Any) -> None:
            timer.cancel()
            peer.answers.pop(timer, None)
            if not peer.answers:
                self._peers.pop(name, None)
                readers.discard(peer)

        context.add_done_callback(taken)


class Peer:
    """One connection; ``name`` is gRPC's, as ``ipv4:127.0.0.1:40312``."""

    def __init__(self, name: str, service: TextService) -> None:
        self.name, self._service = name, service
        self.answers: dict[asyncio.TimerHandle, int] = {}  # bytes of each call that was answered and not taken

    def unread(self) -> int:
        """Bytes that were answered and not taken yet."""
        return sum(list(self.answers.values()))

    def give_up(self, why: str) -> None:
        """Close at once, and drop them."""
        for timer in self.answers:
            timer.cancel()
        self._service.readers.discard(self)
        _close(self.name, self._service, len(self.answers), why)


class Outbox:
    """What one stream has to say, written as fast as its client takes it; gRPC then holds one message at a time."""

    def __init__(self, context: aio.ServicerContext, service: TextService) -> None:
        self._context, self._service = context, service
        self._waiting: deque[tuple[float, bytes]] = deque()  # the loop's time until which each has to be taken
        self._size = 0
        self._closed = False
        self._writer: asyncio.Task[None] | None = None

    def put(self, message: bytes) -> None:
        """Write a message after those before it; nothing happens when nobody is there to take it."""
        if self._closed:
            return
        due = asyncio.get_running_loop().time() + self._service.config.request_timeout + LAST_WORDS
        self._waiting.append((due, message))
        self._size += len(message)
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())
        else:
            self._service.readers.add(self)

    async def empty(self) -> None:
        """Wait until all is written, or dropped."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def close(self) -> None:
        """Drop what waits, and take no more."""
        self._closed = True
        self._waiting.clear()
        self._size = 0
        self._service.readers.discard(self)

    def unread(self) -> int:
        """Bytes that were made and not taken yet."""
        return self._size

    def give_up(self, why: str) -> None:
        """Close the connection at once, and drop them."""
        count = len(self._waiting)
        self.close()
        _close(self._context.peer(), self._service, count, why)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                due, message = self._waiting[0]
                timer = loop.call_at(due, self.give_up, "their time is over")
                try:
                    await self._context.write(message)
                finally:
                    timer.cancel()
                if not self._closed:
                    self._waiting.popleft()
                    self._size -= len(message)
        except Exception:  # the client is gone; of that gRPC tells by cancelling the call
            self.close()
        finally:
            self._writer = None
            self._service.readers.discard(self)


def _close(peer: str, service: TextService, answers: int, why: str) -> None:
    log.info("a connection is closed, %d answers are dropped: %s", answers, why)
    service.metrics.refused("ReaderTooSlow")
    shut_down(peer)


def shut_down(peer: str) -> None:
    """Shut down this process's connection with ``peer``; nothing happens when there is none."""
    _, _, address = peer.partition(":")
    host, _, port = unquote(address).rpartition(":")
    wanted = _plain(host.strip("[]")), int(port)
    for found in _sockets():
        with suppress(OSError):
            name = found.getpeername()
            if (_plain(name[0]), name[1]) == wanted:
                found.shutdown(socket.SHUT_RDWR)


def open_connections(port: int) -> int:
    """How many connections this process has on a port that it listens on."""
    count = 0
    for found in _sockets():
        with suppress(OSError):  # one that listens has no peer
            count += found.getsockname()[1] == port and bool(found.getpeername())
    return count


def stop_listening(port: int) -> None:
    """Refuse new connections on a port of gRPC's, whose own way to do so ends its open ones too."""
    for found in _sockets():
        with suppress(OSError):
            if found.getsockname()[1] == port and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.shutdown(socket.SHUT_RDWR)


def _sockets() -> Iterator[socket.socket]:
    """This process's TCP sockets, each as a copy: gRPC may close its own at any time."""
    for entry in os.listdir("/dev/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                with socket.socket(fileno=os.dup(int(entry))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6):
                        yield found


def _plain(host: str) -> str:
    """An address as both gRPC and the system would write it: IPv4 as such, on a socket for both too."""
    address = ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
