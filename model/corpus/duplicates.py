"""Near duplicates among the rows to train on: of each group that are near to its first, the first one stays.

Whatever their number, memory holds a byte for each row, and 1/64 of their bands: the rest lies on disk, 340 bytes a
row. Signatures are kept as eight bits of each hash, from which similarity is estimated with a standard error of 0.04
(Li and König: b-Bit Minwise Hashing, 2010). A row may be near to one that is itself left out; both are, then.

Rows come in lots, each with a number, and are counted on from one lot to the next; of each lot lie in one directory

    <number>.signatures   a byte for each hash of each row
    <number>.bands        hashes of the bands and their rows, by the partition that a hash is in; where each begins
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.corpus.likeness import PERMUTATIONS, rows_per_band

PARTITIONS = 64
BLOCK = 10_000  # candidates that are compared at a time
_BAND = np.dtype([("hash", "<u8"), ("row", "<u4")])
_BEGINS = np.dtype(("<u4", PARTITIONS + 1))  # of the partitions, and the end of the last one, among a lot's bands
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing

Pairs = list[tuple[int, int]]


def write_lot(directory: Path, number: int, signatures: npt.NDArray[np.uint32], threshold: float) -> None:
    """Write what is to be known of a lot of rows; ``signatures`` has the shape [rows, PERMUTATIONS]."""
    size = rows_per_band(threshold)
    rows, bands = len(signatures), PERMUTATIONS // size
    hashes = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), (rows, bands)).copy()
    for column in np.moveaxis(signatures.reshape(rows, bands, size), 2, 0):
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIER + column
    entries = np.empty(hashes.size, _BAND)
    entries["hash"] = (hashes * _MULTIPLIER).ravel()
    entries["row"] = np.repeat(np.arange(rows, dtype=np.uint32), bands)
    partitions = (entries["hash"] // np.uint64(2**64 // PARTITIONS)).astype(np.int64)
    begins = np.zeros(PARTITIONS + 1, np.uint32)
    begins[1:] = np.cumsum(np.bincount(partitions, minlength=PARTITIONS))
    with (directory / f"{number}.bands").open("wb") as file:
        file.write(begins.tobytes())
        file.write(entries[np.argsort(partitions, kind="stable")].tobytes())
    (directory / f"{number}.signatures").write_bytes(signatures.astype(np.uint8).tobytes())


class NearDuplicates:
    """Finds the near duplicates of one partition after another.

    Args:
        directory: where :func:`write_lot` has written all lots.
        rows: the number of rows of each.
        threshold: the similarity from which on two rows are near.
    """

    def __init__(self, directory: Path, rows: Sequence[int], threshold: float) -> None:
        self._directory, self._threshold = directory, threshold
        self._firsts = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)])  # of the rows of each lot

    def __call__(self, partition: int) -> Pairs:
        """Each row that is near to one before it, and that one, as far as the partition's hashes tell."""
        found: dict[int, int] = {}
        rows, firsts = _candidates(self._entries(partition))
        for begin in range(0, len(rows), BLOCK):
            some, others = rows[begin : begin + BLOCK], firsts[begin : begin + BLOCK]
            near = self._near(some, others)
            for row, first in zip(some[near].tolist(), others[near].tolist(), strict=True):
                found.setdefault(row, first)
        return [*found.items()]

    def _entries(self, partition: int) -> npt.NDArray[np.void]:
        """The partition's bands of all lots, by row."""
        entries = [np.zeros(0, _BAND)]
        for number, first in enumerate(self._firsts[:-1]):
            with (self._directory / f"{number}.bands").open("rb") as file:
                begin, end = np.frombuffer(file.read(_BEGINS.itemsize), "<u4")[partition : partition + 2].tolist()
                file.seek(begin * _BAND.itemsize, os.SEEK_CUR)
                lot = np.frombuffer(file.read((end - begin) * _BAND.itemsize), _BAND).copy()
            lot["row"] += np.uint32(first)
            entries.append(lot)
        return np.concatenate(entries)

    def _near(self, rows: npt.NDArray[np.uint32], firsts: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Whether a row is near to a first one, of each two."""
        known, places = np.unique(np.concatenate([rows, firsts]), return_inverse=True)
        one, other = self._signatures(known)[places].reshape(2, len(rows), PERMUTATIONS)
        by_chance = 1 / 256
        return ((one == other).mean(1) - by_chance) / (1 - by_chance) >= self._threshold

    def _signatures(self, rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
        """Those of some rows, which are in order, [rows, PERMUTATIONS]."""
        read = []
        for number, some in enumerate(np.split(rows, np.searchsorted(rows, self._firsts[1:-1]))):
            if len(some):
                with (self._directory / f"{number}.signatures").open("rb") as file:
                    places = PERMUTATIONS * (some - self._firsts[number])
                    read += [os.pread(file.fileno(), PERMUTATIONS, place) for place in places.tolist()]
        return np.frombuffer(b"".join(read), np.uint8).reshape(-1, PERMUTATIONS)


def _candidates(entries: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Rows that have a band in common with an earlier one, each with the first that has it."""
    entries = entries[np.argsort(entries["hash"], kind="stable")]  # rows of one hash stay in their order
    begins = np.flatnonzero(np.diff(entries["hash"], prepend=~entries["hash"][:1]))
    firsts = np.repeat(entries["row"][begins], np.diff(begins, append=len(entries)))
    later = entries["row"] != firsts
    return entries["row"][later], firsts[later]
