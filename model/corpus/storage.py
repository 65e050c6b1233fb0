"""A corpus on disk: a card, and splits of one JSON object a line in zstd; and the sort on disk that they come from.

    corpus.json  train-00000.jsonl.zst ...  valid.jsonl.zst  heldout.jsonl.zst  test/<name>.jsonl.zst

A record of a parallel corpus has its sides under the language codes, one of running text has "text"; both may have
"author" and "domain". Splits are streamed, so memory does not depend on their size.

A corpus may lie in two directories: the train split, which is large and of use to training alone, and all that is held
out. Each has the whole card, whose ``holds`` names what is there.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import zstandard

from model.corpus.files import CorpusError, SourceFile, line_blocks, read_blocks
from model.files import write_json

FORMAT_VERSION = 1
CARD = "corpus.json"
SUFFIX = ".jsonl.zst"
HELD_OUT = ["valid", "heldout", "test"]
KEY_CHARS = 16  # 64 bits: among 100 million records a collision loses one record with a probability of 0.03 %
BUFFER_BYTES = 1 << 24


def read_card(corpus_dir: str | Path) -> dict[str, Any]:
    """What ``corpus.json`` says: kind, languages, authors, sources, counts, shards and configuration.

    Raises:
        CorpusError: when the directory is not a corpus of this format version.
    """
    path = Path(corpus_dir) / CARD
    try:
        card = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CorpusError(
            f"{corpus_dir}: not a corpus, it has no {CARD}; make one with `python -m model.corpus`"
        ) from None
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error}); prepare the corpus again") from None
    if not isinstance(card, dict) or card.get("format_version") != FORMAT_VERSION:
        raise CorpusError(f"{path}: not a corpus of format version {FORMAT_VERSION}; prepare the corpus again")
    return card


def test_sets(corpus_dir: str | Path) -> list[str]:
    """The names of the corpus's test sets, sorted; each is read as the split ``test/<name>``."""
    return sorted(read_card(corpus_dir)["counts"]["test"])


def read_split(corpus_dir: str | Path, split: str) -> Iterator[dict[str, str]]:
    """The records of ``train``, ``valid``, ``heldout`` or ``test/<name>``, in their order on disk.

    Raises:
        CorpusError: at once for a split that is unknown or elsewhere; while reading, for a missing or damaged file.
    """
    directory, card = Path(corpus_dir), read_card(corpus_dir)
    splits = {"train": [shard["file"] for shard in card["shards"]]}
    for name in ("valid", "heldout", *(f"test/{name}" for name in sorted(card["counts"]["test"]))):
        splits[name] = [name + SUFFIX]
    if split not in splits:
        raise CorpusError(f"{corpus_dir}: no split {split!r}; known: {', '.join(splits)}")
    if (kind := split.partition("/")[0]) not in card.get("holds", [kind]):
        raise CorpusError(
            f"{corpus_dir}: holds {' and '.join(card['holds'])} of its corpus, not {split}; give the other part"
        )
    return _records(directory / name for name in splits[split])


def part(corpus: Path, holdout: Path, card: dict[str, Any]) -> None:
    """Move all that is held out of the directory ``corpus`` to the directory ``holdout``, with the card."""
    for place in (f"valid{SUFFIX}", f"heldout{SUFFIX}", "test"):
        if (corpus / place).exists():
            shutil.move(corpus / place, holdout / place)
    write_json(holdout / CARD, card | {"holds": HELD_OUT})


def check_place(place: Path) -> None:
    """Refuse to write over what is no corpus.

    Raises:
        CorpusError: when the directory holds something else.
    """
    if place.is_file() or (place.is_dir() and any(place.iterdir()) and not (place / CARD).is_file()):
        raise CorpusError(f"{place}: is there and is not a corpus; name another directory, or remove it")


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Write JSON records, one a line without its end, and return their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, rest = 0, iter(records)
    with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as writer:
        while batch := list(itertools.islice(rest, 1000)):
            writer.write(b"\n".join(batch) + b"\n")
            rows += len(batch)
    return rows


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of ours, without their ends."""
    for block in line_blocks(read_blocks(SourceFile(str(path), str(path)), may_be_empty=True)):
        yield from block.splitlines()


def _records(paths: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"{path}: no such file, though the card names it; prepare the corpus again")
        yield from map(orjson.loads, read_lines(path))


class Bucket(NamedTuple):
    """The records of neighbouring hashes, in stretches of one file or several: file, first byte, number of bytes."""

    stretches: list[tuple[Path, int, int]]


class Shuffle:
    """A sort on disk: takes records in any order, and gives them back by a seeded hash of their content.

    The order of the hashes is a fair shuffle, the same for a seed whatever the order of the input; records of one
    content meet as neighbours, and the first records are a random sample. So one sort gives the shuffle, the
    deduplication and the split, and memory holds one bucket (1/256 of the corpus) instead of a set of all hashes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines: dict[bytes, list[bytes]] = {}
        self._buffered = 0
        directory.mkdir(parents=True)

    def add(self, line: bytes) -> None:
        """Add a record with its :func:`key` before it, one line without its end."""
        self._lines.setdefault(line[:2], []).append(line)
        self._buffered += len(line)
        if self._buffered > BUFFER_BYTES:
            self._flush()

    def pack(self, path: Path) -> dict[str, int]:
        """Write the buckets into one file, in the order of their hashes; the bytes of each by its name."""
        self._flush()
        sizes = {bucket.name: bucket.stat().st_size for bucket in sorted(self._directory.iterdir())}
        with path.open("wb") as file:
            for name in sizes:
                with (self._directory / name).open("rb") as bucket:
                    shutil.copyfileobj(bucket, file)
                (self._directory / name).unlink()
        self._directory.rmdir()
        return sizes

    def _flush(self) -> None:
        compressor = zstandard.ZstdCompressor(level=1)
        for name, lines in self._lines.items():
            with (self._directory / name.decode()).open("ab") as file:
                file.write(compressor.compress(b"\n".join(lines) + b"\n"))
        self._lines, self._buffered = {}, 0


def key(seed: int, content: str) -> str:
    """The seeded hash of a record's content, in hexadecimal."""
    hashed = _seeded(seed).copy()  # what the seed costs is as much as a sentence does
    hashed.update(content.encode())
    return hashed.hexdigest()


@lru_cache(4)
def _seeded(seed: int) -> Any:
    return hashlib.blake2b(digest_size=KEY_CHARS // 2, key=str(seed).encode()[:64])


def buckets(packs: Iterable[tuple[Path, Mapping[str, int]]]) -> list[Bucket]:
    """The buckets that :meth:`Shuffle.pack` has written into several files, in the order of their hashes."""
    found: dict[str, Bucket] = {}
    for path, sizes in packs:
        begin = 0
        for name, size in sizes.items():
            found.setdefault(name, Bucket([])).stretches.append((path, begin, size))
            begin += size
    return [found[name] for name in sorted(found)]


def read_bucket(bucket: Bucket) -> list[bytes]:
    """The sorted lines of a bucket: each is a key and its record."""
    lines: list[bytes] = []
    for path, begin, size in bucket.stretches:
        with path.open("rb") as file:
            file.seek(begin)
            with zstandard.ZstdDecompressor().stream_reader(file.read(size), read_across_frames=True) as reader:
                lines += reader.read().splitlines()
    return sorted(lines)


def distinct(lines: Iterable[bytes]) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The records of sorted lines, of several with one key the bytewise smallest; and each other with that one."""
    records: list[bytes] = []
    repeats = []
    last = b""
    for line in lines:
        if line.startswith(last) and last:
            repeats.append((records[-1], line[KEY_CHARS:]))
        else:
            last = line[:KEY_CHARS]
            records.append(line[KEY_CHARS:])
    return records, repeats
