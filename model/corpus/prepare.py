"""From source files to a clean, shuffled, split corpus, in one stream and one sort on disk.

Rows are read, cleaned and spilled to disk by a seeded hash of their content (see :mod:`model.corpus.shuffle`); read
back in the order of the hashes, the first become the held-out and valid splits, the rest the train shards. A train row
that shares a side with a held-out or valid row is left out, as is one that shares a side with a test set. 1,077,100
pairs take 12 s of one core and 205 MB. Memory grows with the test sets, by 100 MB per million of max_rows where that is
set, and with the corpus only by one bucket of the sort, 1/256 of it.

    python -m model.corpus --out corpus --test test.tsv train.tsv.zst
"""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from model.config import CorpusConfig, to_dict
from model.files import replace_directory, sha256_file, write_json
from model.languages import scripts

from . import account
from .cleaning import MAX_AUTHORS, PairCleaner, PieceCleaner, TestText, clean_author, clean_text, cut_pieces
from .files import CorpusError, SourceFile, display
from .reading import Pair, Tally, read_documents, read_pairs
from .shuffle import Shuffle
from .sources import TEST, TRAIN, gather
from .storage import CARD, FORMAT_VERSION, SUFFIX, write_records

PROGRESS_SECONDS = 2.0
SMALL_SHARE = 0.05  # of a small corpus, for each of the two held-out splits

# A row on its way: the record's values in the order of its columns, the author, and why it is rejected, or "".
Row = tuple[tuple[str, ...], str | None, str]


def prepare_corpus(sources: list[str], tests: list[str], out: str | Path, config: CorpusConfig) -> dict[str, Any]:
    """Prepare the corpus ``out`` (a directory, replaced if it is a corpus) and return its card.

    Args:
        sources: files, directories, addresses or ``hf://`` data sets; none means ``config.sources``. Of a directory or
            data set with splits, the test files become test sets, and those to validate on are left out.
        tests: test sets, each named by its file's stem; they are kept as they are, and kept out of the rest.

    Raises:
        CorpusError: when a source cannot be used, or nothing is left of it; ``out`` is then as it was before.
    """
    started, out = time.monotonic(), Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CARD).is_file()):
        raise CorpusError(f"{out}: is there and is not a corpus; name another directory, or remove it")
    sources = sources or config.sources
    if not sources:
        raise CorpusError("no text is given, and corpus.sources names none; give a file, a folder or an address")
    files, test_files = gather(sources, tests, config)
    for line in account.left_out(files):
        _say(line)

    def fill(partial: Path) -> dict[str, Any]:
        card = _prepare([file for file in files if file.role == TRAIN], test_files, partial, config)
        left = [file for file in files if file.role not in (TRAIN, TEST)]
        card["left_out"] = [{"file": file.name, "why": file.role} for file in left[: account.LISTED]]
        card["sources"] = [display(source) for source in sources]
        card["seconds"] = round(time.monotonic() - started, 1)
        write_json(partial / CARD, card)
        return card

    return replace_directory(out, fill)


def _prepare(
    files: list[SourceFile], tests: dict[str, list[SourceFile]], out: Path, config: CorpusConfig
) -> dict[str, Any]:
    columns = tuple(config.languages) if config.kind == "parallel" else ("text",)
    tally, rejected, notes = Tally(config.languages), Counter[str](), list[str]()
    first = dict[str, tuple[str, ...]]()  # the first row that each reason took
    test_text = TestText()
    authors = set[str]()
    test_tally = Tally(config.languages)
    test_counts = {
        name: _write_test(name, tests[name], out, config, test_text, authors, notes, test_tally) for name in tests
    }
    rows = _rows(files, config, tally, test_text)
    shuffle = Shuffle(out / "shuffle", config.seed)
    progress, taken = _Progress(), set[str]()
    read = survivors = 0
    for values, raw_author, reason in rows:
        read += 1
        progress(read)
        if reason:
            rejected[reason] += 1
            tally.leave_out(reason)
            first.setdefault(reason, values)
            continue
        survivors += 1
        record = dict(zip(columns, values, strict=True))
        if raw_author and (author := clean_author(raw_author)):
            record["author"] = author
            authors.add(author)
            if len(authors) > MAX_AUTHORS:
                raise CorpusError(
                    f"more than {MAX_AUTHORS} authors, {author!r} is one too many: each becomes a control token; "
                    "rename or remove the column"
                )
        key = shuffle.key("\t".join(values))
        shuffle.add(key, orjson.dumps(record))
        if config.max_rows:
            taken.add(key)
            if len(taken) == config.max_rows:
                notes.append(f"stopped after max_rows = {config.max_rows:,} rows")
                break
    tally.judge(config.max_malformed)
    rejected += Counter(malformed=tally.malformed, header=tally.headers)
    read += tally.malformed + tally.headers
    told = account.examples(first, rejected, config.languages)
    if not survivors:
        names = ", ".join(file.name for file in files[:3])
        found = f"{names}: nothing is left after cleaning {read:,} rows; rejected: {account.reasons(rejected)}"
        raise CorpusError("\n".join([found, *told]))

    splits, train = _split(shuffle.distinct(), config, notes)
    progress(read, done=True)
    characters: Counter[str] = Counter()
    shards = _write_shards(out, _training(train, splits, columns, rejected, characters), config.shard_rows)
    for name, records in splits.items():
        write_records(out / f"{name}{SUFFIX}", records)
    shutil.rmtree(out / "shuffle")
    counts = {
        "train": sum(shard["rows"] for shard in shards),
        **{name: len(records) for name, records in splits.items()},
    }
    kept, duplicates = sum(counts.values()), shuffle.duplicates
    if not counts["train"]:
        found = account.too_few(kept, read, account.reasons(rejected, duplicates), config)
        raise CorpusError("\n".join([found, *told]))
    if tally.nameless:
        notes.append(f"{tally.nameless:,} rows have an author that is not text, and are kept without it")
    if unknown := [code for code in config.languages if not scripts(code)]:
        notes.append(f"not judged by script: {', '.join(unknown)}, of which model/languages.py knows none")
    if doubtful := account.doubtful(tally.files) if config.kind == "parallel" else []:
        notes += [*doubtful, *told]
    for line in account.rows_of(tally.files + test_tally.files):
        _say(line)
    _say(f"{read:,} rows read, {kept:,} kept; left out: {account.reasons(rejected, duplicates)}")
    for line in [*tally.examples[:1], *notes]:
        _say(line)
    return {
        "format_version": FORMAT_VERSION,
        "kind": config.kind,
        "languages": config.languages,
        "authors": sorted(authors),
        "sources": [],
        "counts": {
            "read": read,
            "kept": kept,
            **counts,
            "test": test_counts,
            "rejected": dict(sorted(rejected.items())),
            "duplicates": duplicates,
        },
        "characters": {name: characters[name] for name in columns},
        "shards": shards,
        "seconds": 0.0,
        "config": to_dict(config),
        "files": tally.files + test_tally.files,
        "left_out": [],
        "malformed": tally.examples,
        "notes": notes,
    }


def _rows(files: list[SourceFile], config: CorpusConfig, tally: Tally, tests: TestText) -> Iterator[Row]:
    """All rows of the sources, cleaned and judged; pieces where the corpus is running text."""
    if config.kind == "parallel":
        clean = PairCleaner(config, tests)
        for file in files:
            for first, second, author in _pairs(file, files, config, tally):
                *sides, reason = clean(first, second)
                yield tuple(sides), author, reason
        return
    judge = PieceCleaner(config, tests)
    for file in files:
        for blocks in read_documents(file, tally):
            for piece in cut_pieces(map(clean_text, blocks), config.max_chars):
                yield (piece,), None, judge(piece)


def _pairs(file: SourceFile, files: list[SourceFile], config: CorpusConfig, tally: Tally) -> Iterator[Pair]:
    """The pairs of one of the files; where it does not fit, the others that were to be read with it are named."""
    try:
        yield from read_pairs(file, config.languages, tally)
    except CorpusError as error:
        folders = sorted({str(PurePosixPath(other.name).parent) for other in files})
        if len(folders) < 2:
            raise
        raise CorpusError(
            f"{error}\nfiles from {len(folders)} folders were to be read together: {', '.join(folders[:8])}"
            f"{', ...' if len(folders) > 8 else ''}; give the one, or the files, that hold the pair"
        ) from None


def _write_test(
    name: str,
    files: list[SourceFile],
    out: Path,
    config: CorpusConfig,
    text: TestText,
    authors: set[str],
    notes: list[str],
    tally: Tally,
) -> int:
    """Store a test set as it is (but for rows with an empty side) and return its number of rows."""
    records, empty, headers = [], 0, tally.headers
    for file in files:
        rows: Iterable[tuple[dict[str, str], str | None]]
        if config.kind == "parallel":
            rows = (
                (dict(zip(config.languages, row[:2], strict=True)), row[2])
                for row in read_pairs(file, config.languages, tally)
            )
        else:
            rows = (
                ({"text": piece}, None)
                for blocks in read_documents(file, tally)
                for piece in cut_pieces(map(clean_text, blocks), config.max_chars)
            )
        for values, author in rows:
            record = {key: value.strip("\r\n") if config.kind == "parallel" else value for key, value in values.items()}
            if not all(value.strip() for value in record.values()):
                empty += 1
                continue
            text.add(record.values())
            if author:
                record["author"] = clean_author(author)
                authors.add(record["author"])
            records.append(orjson.dumps(record))
    if tally.malformed:
        raise CorpusError(
            f"{tally.examples[0]}\ntest sets are taken as they are, so every row of {name} must be whole; "
            f"mend or remove the row{tally.cure}"
        )
    if not records:
        raise CorpusError(f"{', '.join(file.name for file in files)}: the test set {name} has no rows")
    if tally.headers > headers:
        notes.append(f"test set {name}: {tally.headers - headers:,} rows that name the columns left out")
    if empty:
        notes.append(f"test set {name}: {empty:,} rows with an empty side left out")
    return write_records(out / "test" / f"{name}{SUFFIX}", records)


def _split(
    ordered: Iterator[bytes], config: CorpusConfig, notes: list[str]
) -> tuple[dict[str, list[bytes]], Iterator[bytes]]:
    """The valid and held-out records, which are the first, and the stream of those to train on."""
    wanted = {"heldout": config.heldout_rows, "valid": config.valid_rows}
    head = list(itertools.islice(ordered, 2 * sum(wanted.values())))
    rows = len(head)
    if rows < 2 * sum(wanted.values()):
        wanted = {name: min(count, max(1, int(SMALL_SHARE * rows))) for name, count in wanted.items()}
        notes.append(
            f"a small corpus: of {rows:,} rows, heldout gets {wanted['heldout']:,} and valid {wanted['valid']:,}"
        )
    heldout, valid = wanted["heldout"], wanted["heldout"] + wanted["valid"]
    return {"valid": head[heldout:valid], "heldout": head[:heldout]}, itertools.chain(head[valid:], ordered)


def _training(
    records: Iterator[bytes],
    splits: dict[str, list[bytes]],
    columns: tuple[str, ...],
    rejected: Counter[str],
    characters: Counter[str],
) -> Iterator[bytes]:
    """The records that share no side with the held-out splits; the characters of each column are counted."""
    sides = {orjson.loads(record)[column] for held in splits.values() for record in held for column in columns}
    for line in records:
        record = orjson.loads(line)
        values = [record[column] for column in columns]
        if any(value in sides for value in values):
            rejected["heldout_side"] += 1
            continue
        for column, value in zip(columns, values, strict=True):
            characters[column] += len(value)
        yield line


def _write_shards(out: Path, records: Iterator[bytes], shard_rows: int) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = []
    for first in records:
        path = out / f"train-{len(shards):05d}{SUFFIX}"
        rows = write_records(path, itertools.chain([first], itertools.islice(records, shard_rows - 1)))
        shards.append({"file": path.name, "rows": rows, "sha256": sha256_file(path)})
        _say(f"{path.name} written, {rows:,} rows")
    return shards


def _say(line: str) -> None:
    print(f"corpus: {line}", file=sys.stderr, flush=True)


class _Progress:
    """A line on stderr, at most every two seconds."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()

    def __call__(self, rows: int, done: bool = False) -> None:
        if not done and rows % 1000:
            return
        now = time.monotonic()
        if done or now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            rate = rows / max(now - self._started, 1e-9)
            _say(f"{rows:,} rows read and cleaned, {rate:,.0f} rows/s")
