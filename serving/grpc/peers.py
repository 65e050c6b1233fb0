"""gRPC's connections whose clients take no answers: gRPC holds an answer, and a call, for as long as a client likes.

It has no time-out for that and closes no single call or connection when asked, so the socket is shut down under it.
"""

import asyncio
import logging
import os
import socket
import stat
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
        log.info("a connection is closed, %d answers are dropped: %s", len(self.answers), why)
        for timer in self.answers:
            timer.cancel()
        self._service.readers.discard(self)
        self._service.metrics.refused("ReaderTooSlow")
        shut_down(self.name)


def shut_down(peer: str) -> None:
    """Shut down this process's connection with ``peer``; nothing happens when there is none."""
    _, _, address = peer.partition(":")
    host, _, port = unquote(address).rpartition(":")
    wanted = _plain(host.strip("[]")), int(port)
    for entry in os.listdir("/dev/fd"):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry))) as found:  # gRPC may close its own at any time
                if found.family in (socket.AF_INET, socket.AF_INET6):
                    name = found.getpeername()
                    if (_plain(name[0]), name[1]) == wanted:
                        found.shutdown(socket.SHUT_RDWR)


def _plain(host: str) -> str:
    """An address as both gRPC and the system would write it: IPv4 as such, on a socket for both too."""
    address = ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
