"""A corpus on disk: a card, and splits of one JSON object a line in zstd.

    corpus.json  train-00000.jsonl.zst ...  valid.jsonl.zst  heldout.jsonl.zst  test/<name>.jsonl.zst

A record of a parallel corpus has its sides under the language codes, one of running text has "text"; both may have
"author". Splits are streamed, so memory does not depend on their size.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import zstandard

from model.corpus.files import CorpusError, SourceFile, line_blocks, read_blocks

FORMAT_VERSION = 1
CARD = "corpus.json"
SUFFIX = ".jsonl.zst"


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
        CorpusError: at once for an unknown split; while reading, for a missing or damaged file.
    """
    directory, card = Path(corpus_dir), read_card(corpus_dir)
    splits = {"train": [shard["file"] for shard in card["shards"]]}
    for name in ("valid", "heldout", *(f"test/{name}" for name in sorted(card["counts"]["test"]))):
        splits[name] = [name + SUFFIX]
    if split not in splits:
        raise CorpusError(f"{corpus_dir}: no split {split!r}; known: {', '.join(splits)}")
    return _records(directory / name for name in splits[split])


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Write JSON records, one a line without its end, and return their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, rest = 0, iter(records)
    with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as writer:
        while batch := list(itertools.islice(rest, 1000)):
            writer.write(b"\n".join(batch) + b"\n")
            rows += len(batch)
    return rows


def _records(paths: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"{path}: no such file, though the card names it; prepare the corpus again")
        for block in line_blocks(read_blocks(SourceFile(str(path), str(path)), may_be_empty=True)):
            for line in block.splitlines():
                yield orjson.loads(line)
