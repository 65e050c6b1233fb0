"""What of the text each shard reads: a stretch of all files, laid end to end in their order, by their bytes.

A border within a file is a place among its bytes as they are stored. A row belongs to the shard in whose stretch the
block begins that it was read from (:class:`model.corpus.files.Meter`): so two shards part a file between the same two
rows, and need no word from each other. What stands in a file before a stretch is read and passed over, since rows, and
the domains beside them, are counted from the file's beginning; what stands after it is not read.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from model.corpus.files import SourceFile
from model.corpus.rows import Row
from model.corpus.tally import Tally


class Share(NamedTuple):
    """The rows of a file from one place to another, in bytes; without an end all that follow."""

    file: SourceFile
    begin: int = 0
    end: int | None = None


def shares(files: Sequence[SourceFile], number: int, of: int, *, whole: bool) -> list[Share]:
    """What the shard ``number``, from 0 on, ``of`` so many reads; all together they read each row once.

    Args:
        whole: parts no file. A file of unknown size, which weighs as much as the others do on average, never is.
    """
    known = [file.size for file in files if file.size]
    usual = sum(known) // len(known) if known else 1
    sizes = [file.size or usual for file in files]
    first, last = (sum(sizes) * part // of for part in (number, number + 1))
    found, place = list[Share](), 0
    for file, size in zip(files, sizes, strict=True):
        begin, end = max(0, first - place), last - place
        if whole or not file.size:
            if first <= place < last:
                found.append(Share(file))
        elif begin < min(size, end):
            found.append(Share(file, begin, end if end < size else None))
        place += size
    return found


class Stretch:
    """The rows of a share on their way, and what reading them has counted."""

    def __init__(self, share: Share, read: Tally) -> None:
        """Begin.

        Args:
            share: of a file.
            read: what the reading of the file counts, from its beginning on.
        """
        self._share, self._read = share, read
        self._since = None if share.begin else read.as_now()

    def of(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Of the file's rows those of the share."""
        begin, end, meter = self._share.begin, self._share.end, self._share.file.meter
        for row in rows:
            if end is not None and meter.place >= end:
                return
            if self._since is None:
                if meter.place < begin:
                    continue
                self._since = self._read.as_now()
            yield row

    def count(self, tally: Tally) -> None:
        """Add what has been read of the share to ``tally``, whose current file it is of."""
        tally.take(self._read, self._read if self._since is None else self._since)
