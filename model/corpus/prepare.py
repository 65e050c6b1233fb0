"""From source files to a clean, shuffled, split corpus, in one stream and one sort on disk.

Rows are read, cleaned and sorted by a seeded hash of their content (:class:`model.corpus.storage.Shuffle`): the first
become the held-out and valid splits, the rest the train shards. A train row of which a side is held out, or in a test
set, or near to one that is, is left out (:mod:`model.corpus.screening`). Both passes are shared among processes.
Memory grows with what is held out and the test sets, by 100 MB per million of max_rows where that is set, and with the
corpus only by a few buckets of the sort, each 1/256 of it; see `python -m benchmarks.corpus`.
"""

import itertools
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import orjson

from model.config import CorpusConfig, to_dict
from model.corpus import account
from model.corpus.cleaning import MAX_AUTHORS, TestText
from model.corpus.duplicates import NearDuplicates
from model.corpus.files import CorpusError, SourceFile, display
from model.corpus.holdout import Ends, first_ones
from model.corpus.rows import RowCleaner, make_record, test_sides
from model.corpus.screening import SHOWN as EXAMPLES
from model.corpus.screening import Screen, Screened, sides
from model.corpus.segments import batches, segments
from model.corpus.sources import TEST, TRAIN, gather
from model.corpus.storage import CARD, FORMAT_VERSION, SUFFIX, Shuffle, part, write_records
from model.corpus.tally import Tally
from model.corpus.workers import in_order
from model.files import replace_directory, sha256_file, write_json
from model.languages import scripts
from model.processors import available_cpus
from model.progress import Progress

BATCH_ROWS = 1000  # cleaned at a time
SMALL_ROWS = 50_000  # a corpus of no more is prepared in one process


def prepare_corpus(
    sources: list[str], tests: list[str], out: str | Path, config: CorpusConfig, holdout: str | Path | None = None
) -> dict[str, Any]:
    """Prepare the corpus ``out`` (a directory, replaced if it is a corpus) and return its card.

    Args:
        sources: files, directories, addresses or ``hf://`` data sets; none means ``config.sources``. Of a directory or
            data set with splits, the test files become test sets, and those to validate on are left out.
        tests: test sets, each named by its file's stem; they are kept as they are, and kept out of the rest.
        holdout: a directory of its own for all splits but the train split, with the same card; None for ``out``.

    Raises:
        CorpusError: when a source cannot be used, or nothing is left of it; ``out`` is then as it was before.
    """
    started, out = time.monotonic(), Path(out)
    for place in (out, *([] if holdout is None else [Path(holdout)])):
        if place.is_file() or (place.is_dir() and any(place.iterdir()) and not (place / CARD).is_file()):
            raise CorpusError(f"{place}: is there and is not a corpus; name another directory, or remove it")
    sources = sources or config.sources
    if not sources:
        raise CorpusError("no text is given, and corpus.sources names none; give a file, a folder or an address")
    files, test_files = gather(sources, tests, config)
    left_out = [file for file in files if file.role not in (TRAIN, TEST)]
    _tell(*account.left_out(left_out))

    def fill(partial: Path) -> dict[str, Any]:
        corpus = _Preparation(partial, config)
        corpus.run([file for file in files if file.role == TRAIN], test_files)
        card = corpus.card([display(source) for source in sources], left_out, time.monotonic() - started)
        if holdout is not None:
            replace_directory(Path(holdout), lambda other: part(partial, other, card))
            card["holds"] = [TRAIN]
        write_json(partial / CARD, card)
        return card

    return replace_directory(out, fill)


class _Preparation:
    """A corpus in the making in the directory ``out``: what became of every row is counted here, for its card."""

    def __init__(self, out: Path, config: CorpusConfig) -> None:
        self.out, self.config = out, config
        self.parallel = config.kind == "parallel"
        self.columns = tuple(config.languages) if self.parallel else ("text",)
        self.tally, self.test_tally = Tally(config.languages), Tally(config.languages)
        self.test_text = TestText()
        self.authors, self.notes = set[str](), list[str]()
        self.domains = Counter[str]()  # rows to train on
        self.read = 0
        self.rejected = Counter[str]()
        self.taken = dict[str, list[tuple[str, ...]]]()  # the first rows that each reason of the cleaning took
        self.screened = Screened()
        self.masked = Counter[str]()  # by kind, in the rows that are fit
        self.ends = Ends(config, self.columns) if config.held_out_end else None
        self.characters = Counter[str]()
        self.shards: list[dict[str, Any]] = []
        self.rows: dict[str, int] = {}  # by split
        self.test_rows: dict[str, int] = {}  # by test set

    def run(self, files: list[SourceFile], tests: dict[str, list[SourceFile]]) -> None:
        """Write everything but the card, and tell what was made of what."""
        self.test_rows = {name: self._write_test(name, found) for name, found in tests.items()}
        shuffle = Shuffle(self.out / "shuffle")
        self._clean_into(shuffle, files)
        buckets = shuffle.buckets()
        if self.ends:
            held_out, rest = self.ends.splits(self.screened), list[bytes]()
        else:
            held_out, rest = first_ones(buckets, self.config, self.columns, self.screened, self.notes.append)
        self._write_shards(self._training(self._screen(rest, buckets, held_out)))
        self.rows = {"train": sum(shard["rows"] for shard in self.shards)}
        for name, split in held_out.items():
            self.rows[name] = write_records(self.out / f"{name}{SUFFIX}", split)
        shutil.rmtree(self.out / "shuffle")
        self.rejected += self.screened.left_out
        self._conclude()

    def card(self, sources: list[str], left_out: list[SourceFile], seconds: float) -> dict[str, Any]:
        """What ``corpus.json`` says."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.config.kind,
            "languages": self.config.languages,
            "authors": sorted(self.authors),
            "domains": dict(sorted(self.domains.items())),
            "sources": sources,
            "counts": {
                "read": self.read,
                "kept": sum(self.rows.values()),
                **self.rows,
                "test": self.test_rows,
                "rejected": dict(sorted(self.rejected.items())),
                "duplicates": self.screened.duplicates,
                "masked": dict(sorted(self.masked.items())),
            },
            "characters": {name: self.characters[name] for name in self.columns},
            "shards": self.shards,
            "seconds": round(seconds, 1),
            "config": to_dict(self.config) | {"sources": sources},
            "files": self.tally.files + self.test_tally.files,
            "left_out": [{"file": file.name, "why": file.role} for file in left_out[: account.LISTED]],
            "malformed": self.tally.examples,
            "examples": {
                **{rule: [account.example(row) for row in rows] for rule, rows in self.taken.items()},
                **{
                    rule: [account.example(row.split("\t"), like) for row, like in found]
                    for rule, found in self.screened.examples.items()
                },
            },
            "notes": self.notes,
        }

    def _write_test(self, name: str, files: list[SourceFile]) -> int:
        """Store a test set as it is (but for rows with an empty side) and return its number of rows."""
        records, empty, headers = [], 0, self.test_tally.headers
        for row, author, _ in (row for file in files for row in segments(file, self.config, self.test_tally, files)):
            values = [value.strip("\r\n") for value in row] if self.parallel else row
            if not all(map(str.strip, values)):
                empty += 1
                continue
            self.test_text.add(values)
            record, named = make_record(self.columns, values, author)
            self._name(named)
            records.append(record)
        if self.test_tally.malformed:
            raise CorpusError(
                f"{self.test_tally.examples[0]}\ntest sets are taken as they are, so every row of {name} must be "
                f"whole; mend or remove the row{self.test_tally.cure}"
            )
        if not records:
            raise CorpusError(f"{', '.join(file.name for file in files)}: the test set {name} has no rows")
        if headers := self.test_tally.headers - headers:
            self.notes.append(f"test set {name}: {headers:,} rows that name the columns left out")
        if empty:
            self.notes.append(f"test set {name}: {empty:,} rows with an empty side left out")
        return write_records(self.out / "test" / f"{name}{SUFFIX}", records)

    def _name(self, author: str) -> None:
        if author:
            self.authors.add(author)
            if len(self.authors) > MAX_AUTHORS:
                raise CorpusError(
                    f"more than {MAX_AUTHORS} authors, {author!r} is one too many: each becomes a control token; "
                    "rename or remove the column"
                )

    def _clean_into(self, shuffle: Shuffle, files: list[SourceFile]) -> None:
        """Add the rows that are fit for training to the shuffle, up to max_rows of them; count the others by reason."""
        progress = Progress("corpus", unit="rows", every=2.0)
        taken = set[str]()
        processes, here = (1, 0) if self.config.max_rows else (self._processes, SMALL_ROWS // BATCH_ROWS)
        arguments = (self.config, self.columns, self.test_text)
        # Where rows are counted up to max_rows, none is read that is not needed.
        size, work = 1 if self.config.max_rows else BATCH_ROWS, self.out / "text"
        read = batches(files, self.config, self.tally, size, work)
        for (file, split), batch in in_order(RowCleaner, arguments, read, processes, here):
            self.read += len(batch)
            for values, reason, key, record, author, masked in batch:
                if reason:
                    self.rejected[reason] += 1
                    file["rejected"][reason] += 1
                    if len(rows := self.taken.setdefault(reason, [])) < EXAMPLES:
                        rows.append(values)
                    continue
                self._name(author)
                self.masked.update(masked or ())
                if self.ends and split != TRAIN:
                    self.ends.add(split, key, record)
                    continue
                shuffle.add(key, record)
                if self.config.max_rows:
                    taken.add(key)
            progress.advance(len(batch), f"{self.read:,} rows read and cleaned")
            if taken and len(taken) == self.config.max_rows:
                self.notes.append(f"stopped after max_rows = {self.config.max_rows:,} rows")
                break
        self.tally.check(self.config.max_malformed)
        progress.tell(f"{self.read:,} rows read and cleaned")
        nothing = self.read == self.rejected.total()
        self.rejected += Counter(malformed=self.tally.malformed, header=self.tally.headers)
        self.read += self.tally.malformed + self.tally.headers
        if nothing:
            names, why = ", ".join(file.name for file in files[:3]), account.reasons(self.rejected)
            self._refuse(f"{names}: nothing is left after cleaning {self.read:,} rows; rejected: {why}")

    def _screen(self, rest: list[bytes], buckets: list[Path], held_out: dict[str, list[bytes]]) -> Iterator[bytes]:
        """The records to train on: neither held out nor near to what is, nor there before."""
        held = [line for split in held_out.values() for line in split]
        arguments = (self.config, self.columns, held, test_sides(self.test_text, self.config))
        tasks: list[tuple[None, Path | list[bytes]]] = [(None, rest), *((None, bucket) for bucket in buckets)]
        found = None
        if self.config.duplicates == "near":
            found = NearDuplicates(self.out / "shuffle" / "near", self.config.similarity)
        processes = self._processes if self.read > SMALL_ROWS else 1
        for _, done in in_order(Screen, arguments, tasks, processes, here=1):
            self.screened.add(done)
            if found and done.signatures is not None:
                found.add(done.records, done.signatures)
            else:
                yield from done.records
        if found:
            yield from found.kept()
            for pair in found.examples:
                self.screened.leave_out(
                    "near_duplicate", *("\t".join(sides(orjson.loads(r), self.columns)) for r in pair)
                )
            self.screened.left_out["near_duplicate"] = found.left_out

    @property
    def _processes(self) -> int:
        return self.config.processes or available_cpus()

    def _training(self, records: Iterator[bytes]) -> Iterator[bytes]:
        """The records, with the characters of each column and the rows of each domain counted."""
        for line in records:
            record = orjson.loads(line)
            for column in self.columns:
                self.characters[column] += len(record[column])
            if domain := record.get("domain"):
                self.domains[domain] += 1
                if len(self.domains) > MAX_AUTHORS:
                    raise CorpusError(f"more than {MAX_AUTHORS} domains, {domain!r} is one too many; name fewer")
            yield line

    def _write_shards(self, records: Iterator[bytes]) -> None:
        for first in records:
            path = self.out / f"train-{len(self.shards):05d}{SUFFIX}"
            shard = itertools.chain([first], itertools.islice(records, self.config.shard_rows - 1))
            rows = write_records(path, shard)
            self.shards.append({"file": path.name, "rows": rows, "sha256": sha256_file(path)})
            _tell(f"{path.name} written, {rows:,} rows")

    def _conclude(self) -> None:
        """Refuse a corpus with nothing to train on; note what is worth knowing, and tell it."""
        kept, left_out = sum(self.rows.values()), account.reasons(self.rejected, self.screened.duplicates)
        if not self.rows["train"]:
            self._refuse(account.too_few(kept, self.read, left_out, self.config))
        if self.domains:
            told = ", ".join(f"{name} {count:,}" for name, count in self.domains.most_common())
            self.notes.append(f"domains of the rows to train on: {told}")
        if self.tally.nameless:
            self.notes.append(f"{self.tally.nameless:,} rows have an author that is not text, and are kept without it")
        if unknown := [code for code in self.config.languages if not scripts(code)]:
            self.notes.append(f"not judged by script: {', '.join(unknown)}, of which model/languages.py knows none")
        if doubtful := account.doubtful(self.tally.files) if self.parallel else []:
            self.notes += [*doubtful, *account.examples(self.taken, self.rejected, self.config.languages)]
        _tell(
            *account.rows_of(self.tally.files + self.test_tally.files),
            f"{self.read:,} rows read, {kept:,} kept; left out: {left_out}",
            *self.tally.examples[:1],
            *self.notes,
        )

    def _refuse(self, problem: str) -> NoReturn:
        examples = account.examples(self.taken, self.rejected, self.config.languages)
        raise CorpusError("\n".join([problem, *examples]))


def _tell(*lines: str) -> None:
    for line in lines:
        print(f"corpus: {line}", flush=True)
