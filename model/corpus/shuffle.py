"""A shuffle on disk that also finds duplicates: records sorted by a seeded hash of their content.

The order of the hashes is a fair shuffle, the same for a seed whatever the order of the input; equal records meet as
neighbours, and the first records are a random sample. So one sort gives the shuffle, the deduplication and the split,
and memory holds one bucket (1/256 of the corpus) instead of a set of all hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

KEY_CHARS = 16  # 64 bits: among 100 million records a collision loses one record with a probability of 0.03 %
BUFFER_BYTES = 1 << 24


class Shuffle:
    """Takes records in any order, and gives them back once each, in the order of their seeded hashes."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory, self._seed = directory, str(seed).encode()[:64]
        self._buckets: dict[str, list[bytes]] = {}
        self._buffered = 0
        self.duplicates = 0  # known once distinct() has run to its end
        directory.mkdir(parents=True)

    def key(self, content: str) -> str:
        """The seeded hash of a record's content, in hexadecimal."""
        return hashlib.blake2b(content.encode(), digest_size=KEY_CHARS // 2, key=self._seed).hexdigest()

    def add(self, key: str, record: bytes) -> None:
        """Add a record, one line without its end."""
        self._buckets.setdefault(key[:2], []).append(key.encode() + record)
        self._buffered += KEY_CHARS + len(record)
        if self._buffered > BUFFER_BYTES:
            self._flush()

    def distinct(self) -> Iterator[bytes]:
        """The records in the order of their hashes; of several with one content, the bytewise smallest."""
        self._flush()
        last = b""
        for path in sorted(self._directory.iterdir()):
            with (
                path.open("rb") as file,
                zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader,
            ):
                lines = reader.read().split(b"\n")
            path.unlink()
            lines.pop()  # after the last line's end
            lines.sort()
            for line in lines:
                key = line[:KEY_CHARS]
                if key == last:
                    self.duplicates += 1
                else:
                    last = key
                    yield line[KEY_CHARS:]

    def _flush(self) -> None:
        compressor = zstandard.ZstdCompressor(level=1)
        for name, lines in self._buckets.items():
            with (self._directory / name).open("ab") as file:
                file.write(compressor.compress(b"\n".join(lines) + b"\n"))
        self._buckets, self._buffered = {}, 0
