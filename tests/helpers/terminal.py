"""A program in a terminal of its own, which types and reads as a person does.

with Terminal([sys.executable, "-m", "serving.chat", "--bundle", bundle], {"LANG": "C.UTF-8"}) as terminal:
    terminal.expect("> ")
    terminal.send("Hello\\n")
"""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240  # a busy machine takes minutes
LANGUAGE = ("LC_ALL", "LC_MESSAGES", "LC_CTYPE", "LANG", "LANGUAGE", "NO_COLOR", "TERM", "XDG_STATE_HOME")
# Without a controlling terminal Ctrl-C would be a letter like any other.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A running program, whose controlling terminal is a pseudo-terminal.

    Attributes:
        seen: all that it has written, and not been expected yet; lines end by a line feed.
    """

    def __init__(self, command: Sequence[object], environment: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in LANGUAGE and "MAKE" not in name}
        self._ours, theirs = os.openpty()
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *map(str, command)],
            cwd=ROOT,
            env={"TERM": "xterm", **inherited, **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        os.close(self._ours)

    def send(self, text: str) -> None:
        """Type; ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._ours, text.encode())

    def expect(self, pattern: str) -> str:
        """Wait until it has written this, and take all up to its end."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            assert self._read(end), f"waited for {pattern!r}, and it has written:\n{self.seen}"
        taken, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return taken

    def ended(self) -> int:
        """Wait for its end, and return its exit status; ``seen`` is what it wrote until then."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        return self.process.wait(max(1.0, end - time.monotonic()))

    def _read(self, end: float) -> bool:
        """Wait for more; False when it has ended, or it is too late."""
        if not select.select([self._ours], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # on Linux the end of a pseudo-terminal is an error
            return False
        self.seen += self._decoder.decode(data).replace("\r\n", "\n")
        return bool(data)
