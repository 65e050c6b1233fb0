"""The translations of a file so far, beside the file that they will make: a killed command goes on after them.

The first line says what is translated, by which bundle and how; each further line is a translation as JSON, in the
order of the document's texts. A journal of anything else is begun anew. Memory does not depend on its length.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.errors import ProjectError


class Busy(ProjectError):
    """Another process is writing the same file."""


class Journal:
    """What has been translated of one document.

    Args:
        path: of the journal.
        key: what all of its translations depend on.

    Attributes:
        count: translations that it holds.

    Raises:
        Busy: while another process has it open.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path, self.count = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Busy(f"{path}: another process is translating this file; wait for it, or end it") from None
        head = json.dumps(key, sort_keys=True).encode() + b"\n"
        self._file.seek(0)
        if self._file.readline() != head:
            self._file.truncate(0)
            self._write(head)
        self._begin = end = len(head)
        for line in self._file:
            if not _whole(line):
                break  # cut off by a kill, or never written by a machine that lost its power
            self.count, end = self.count + 1, end + len(line)
        self._file.truncate(end)

    def __iter__(self) -> Iterator[str]:
        """The translations, in order."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            yield from map(json.loads, file)

    def append(self, translations: Sequence[str]) -> None:
        """Add the next translations.

        Raises:
            OSError: with the journal's name, as on a full disk.
        """
        self._write(b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in translations))
        self.count += len(translations)

    def close(self, *, done: bool) -> None:
        """Let others have it; a journal that is done with is removed."""
        if done:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def _whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), str)
    except ValueError:
        return False
