"""Files that were made for a caller and wait to be fetched: in memory, for ten minutes, and no more than so many bytes.

Nothing is written to a disk, so nothing is left there when the process is killed. Whoever knows the address of a file
may have it: it holds 128 random bits, is told to nobody but the caller, and is in no log. Behind several replicas it
must lead to the one that made the file.
"""

import asyncio
import secrets
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response

from serving.errors import NotFound, Overloaded

PATH = "/download_file/"
KEPT_SECONDS = 600
KEPT_BYTES = 1 << 26


@dataclass(frozen=True)
class Download:
    """A file, and the name that it is to be saved under."""

    name: str
    content: bytes

    def response(self) -> Response:
        """The file to be saved, not shown: what somebody sent must not run as a page of this server."""
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(self.name)}",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; sandbox",
        }
        return Response(self.content, 200, headers, "application/octet-stream")


class Downloads:
    """Files by the secret in their addresses.

    Args:
        seconds: that each is kept.
        limit: bytes that are kept in all.
    """

    def __init__(self, seconds: float = KEPT_SECONDS, limit: int = KEPT_BYTES) -> None:
        self.seconds, self.limit = seconds, limit
        self._kept: dict[str, Download] = {}
        self._bytes = 0

    def check_room(self, size: int) -> None:
        """Refuse a file before work is done for it.

        Raises:
            Overloaded: when so many bytes more cannot be kept now. What is kept was promised, and is not dropped.
        """
        if self._bytes + size > self.limit:
            raise Overloaded(f"{self._bytes} bytes of translated files wait to be fetched; try again in some minutes")

    def keep(self, name: str, content: bytes) -> str:
        """The end of the address where a file can be had from now on; raises as :meth:`check_room`."""
        self.check_room(len(content))
        secret = secrets.token_urlsafe(16)
        self._kept[secret] = Download(name, content)
        self._bytes += len(content)
        asyncio.get_running_loop().call_later(self.seconds, self._drop, secret)
        return f"{secret}.{quote(name)}"

    def get(self, name: str) -> Download:
        """A file by the end of its address, of which the secret alone counts.

        Raises:
            NotFound: when there is none, or not any more.
        """
        found = self._kept.get(name.partition(".")[0])
        if found is None:
            raise NotFound(f"no such file: one is kept for {self.seconds:g} seconds, by the server that made it")
        return found

    def _drop(self, secret: str) -> None:
        self._bytes -= len(self._kept.pop(secret).content)
