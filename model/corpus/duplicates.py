"""Near duplicates among the rows to train on: of each group that are near to its first, the first one stays.

Whatever their number, memory holds a byte for each row, and 1/256 of their bands: the rest lies on disk, 340 bytes a
row. Signatures are kept as eight bits of each hash, from which similarity is estimated with a standard error of 0.04
(Li and König: b-Bit Minwise Hashing, 2010). A row may be near to one that is itself left out; both are, then.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from model.corpus.likeness import PERMUTATIONS, rows_per_band
from model.corpus.storage import read_lines

PARTITIONS = 256
SHOWN = 5  # examples of what is left out
_BAND = np.dtype([("hash", "<u8"), ("row", "<u4")])
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing


class NearDuplicates:
    """Takes all rows with their signatures, and then gives back those that are near to none before them."""

    def __init__(self, directory: Path, threshold: float) -> None:
        directory.mkdir()
        self._directory, self._threshold = directory, threshold
        self._size = rows_per_band(threshold)
        self._rows = 0
        self._records, self._signatures = directory / "records.zst", directory / "signatures"
        self.left_out = 0
        self.examples: list[tuple[bytes, bytes]] = []  # of records that are left out, each with the one it is near to

    def add(self, records: list[bytes], signatures: npt.NDArray[np.uint32]) -> None:
        """Add rows; ``signatures`` has the shape [records, PERMUTATIONS]."""
        if not records:
            return
        with self._records.open("ab") as file:
            file.write(zstandard.ZstdCompressor(level=1).compress(b"\n".join(records) + b"\n"))
        with self._signatures.open("ab") as file:
            file.write(signatures.astype(np.uint8).tobytes())
        bands = PERMUTATIONS // self._size
        hashes = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), (len(records), bands)).copy()
        for column in np.moveaxis(signatures.reshape(len(records), bands, self._size), 2, 0):
            hashes = (hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIER + column
        entries = np.empty(hashes.size, _BAND)
        entries["hash"] = (hashes * _MULTIPLIER).ravel()
        entries["row"] = np.repeat(np.arange(self._rows, self._rows + len(records), dtype=np.uint32), bands)
        self._rows += len(records)
        partitions = entries["hash"] >> np.uint64(56)
        entries = entries[np.argsort(partitions, kind="stable")]
        ends = np.cumsum(np.bincount(partitions.astype(np.int64), minlength=PARTITIONS))
        for number, part in enumerate(np.split(entries, ends[:-1])):
            if len(part):
                with (self._directory / f"bands-{number:03d}").open("ab") as file:
                    file.write(part.tobytes())

    def kept(self) -> Iterator[bytes]:
        """The records that stay, in their order; the others are counted."""
        if not self._rows:
            return
        dropped, near = self._dropped()
        self.left_out = sum(dropped)
        firsts = dict.fromkeys(near.values(), b"")
        for row, record in enumerate(read_lines(self._records)):
            if row in firsts:
                firsts[row] = record
            if row in near:
                self.examples.append((record, firsts[near[row]]))
            if not dropped[row]:
                yield record

    def _dropped(self) -> tuple[bytearray, dict[int, int]]:
        """A byte for each row, 1 where it is left out; and the first of these with the rows that they are near to."""
        dropped = bytearray(self._rows)
        near: dict[int, int] = {}
        with self._signatures.open("rb") as signatures:
            for path in sorted(self._directory.glob("bands-*")):
                for row, first in _candidates(np.fromfile(path, _BAND)):
                    if not dropped[row] and self._near(signatures.fileno(), row, first):
                        dropped[row] = 1
                        near[row] = first
                path.unlink()
                near = {row: near[row] for row in sorted(near)[:SHOWN]}
        return dropped, near

    def _near(self, signatures: int, row: int, first: int) -> bool:
        one, other = (
            np.frombuffer(os.pread(signatures, PERMUTATIONS, n * PERMUTATIONS), np.uint8) for n in (row, first)
        )
        by_chance = 1 / 256
        return (float(np.mean(one == other)) - by_chance) / (1 - by_chance) >= self._threshold


def _candidates(entries: npt.NDArray[np.void]) -> Iterator[tuple[int, int]]:
    """Rows that have a band in common with an earlier one, each with the first that has it."""
    entries = entries[np.argsort(entries["hash"], kind="stable")]  # rows of one hash stay in their order
    begins = np.flatnonzero(np.diff(entries["hash"], prepend=~entries["hash"][:1]))
    sizes = np.diff(begins, append=len(entries))
    firsts = np.repeat(entries["row"][begins], sizes)
    later = entries["row"] != firsts
    yield from zip(entries["row"][later].tolist(), firsts[later].tolist(), strict=True)
