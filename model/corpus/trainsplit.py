"""The train split: the rows that stay, in their order, in files of so many rows, each of which is written by itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from model.corpus.screening import Screened, read_lot
from model.corpus.storage import SUFFIX, write_records
from model.files import sha256_file


class Stretch(NamedTuple):
    """Some rows of a lot, one after another."""

    lot: int
    begin: int
    end: int
    left_out: list[int]  # rows between that do not stay


class TrainFile(NamedTuple):
    """A file of the train split, as it was written."""

    name: str
    rows: int
    sha256: str
    left_out: Screened  # counts the rows that were left out on the way


def train_files(rows: Sequence[int], dropped: bytearray, size: int) -> Iterator[list[Stretch]]:
    """What each file is made of: ``size`` rows that stay, in the last one fewer, or none.

    Args:
        rows: the number of rows of each lot.
        dropped: a byte for each row of all lots, 1 where it is left out.
    """
    place, room, stretches = 0, size, list[Stretch]()
    for lot, count in enumerate(rows):
        out = np.frombuffer(dropped, np.uint8, count, place) if count else np.zeros(0, np.uint8)
        place, begin = place + count, 0
        while begin < count:
            stay = np.flatnonzero(out[begin:] == 0)[:room]
            end = begin + int(stay[-1]) + 1 if len(stay) == room else count
            stretches.append(Stretch(lot, begin, end, (begin + np.flatnonzero(out[begin:end])).tolist()))
            room, begin = room - len(stay), end
            if not room:
                yield stretches
                room, stretches = size, []
    if stretches:
        yield stretches


class TrainWriter:
    """Writes files of the train split.

    Args:
        out: the directory of the corpus.
        work: the directory of the lots that :class:`model.corpus.screening.Screen` has written.
        columns: the names of a record's values.
    """

    def __init__(self, out: Path, work: Path, columns: Sequence[str]) -> None:
        self._out, self._work, self._columns = out, work, columns

    def __call__(self, task: tuple[int, list[Stretch]]) -> TrainFile:
        """Write the file of that number; none where no row stays."""
        number, stretches = task
        path, left_out = self._out / f"train-{number:05d}{SUFFIX}", Screened()
        rows = write_records(path, self._records(stretches, left_out))
        if not rows:
            path.unlink()
            return TrainFile("", 0, "", left_out)
        return TrainFile(path.name, rows, sha256_file(path), left_out)

    def _records(self, stretches: list[Stretch], left_out: Screened) -> Iterator[bytes]:
        for lot, begin, end, out in stretches:
            records = read_lot(self._work, lot)
            left_out.keep([orjson.loads(records[row]) for row in out], self._columns)
            for row in reversed(out):
                del records[row]
            yield from records[begin : end - len(out)]
