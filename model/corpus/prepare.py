"""From source files to a clean, shuffled, split corpus, in one stream and one sort on disk.

Rows are read, cleaned and sorted by a seeded hash of their content (:class:`model.corpus.storage.Shuffle`): the first
become the held-out and valid splits, the rest the train shards. A train row that shares a side with a held-out or valid
row is left out, as is one that shares a side with a test set. 1,077,100 pairs take 12 s of one core and 205 MB. Memory
grows with the test sets, by 100 MB per million of max_rows where that is set, and with the corpus only by one bucket of
the sort, 1/256 of it.
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
from model.corpus.cleaning import MAX_AUTHORS, PairCleaner, PieceFilter, TestText, clean_author
from model.corpus.domains import Domains
from model.corpus.files import CorpusError, SourceFile, display
from model.corpus.reading import read_documents, read_pairs
from model.corpus.sources import TEST, TRAIN, gather
from model.corpus.storage import CARD, FORMAT_VERSION, SUFFIX, Shuffle, part, write_records
from model.corpus.tally import Tally
from model.files import replace_directory, sha256_file, write_json
from model.languages import scripts
from model.progress import Progress
from model.text.blocks import cut_blocks
from model.text.cleaning import clean_text

PROGRESS_ROWS = 1000
SMALL_SHARE = 0.05  # of a small corpus, for each of the two held-out splits

# A record's values in the order of its columns, and the author and the domain.
Row = tuple[tuple[str, ...], str | None, str | None]


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
        self.first = dict[str, tuple[str, ...]]()  # the first row that each reason took
        self.duplicates = 0
        self.characters = Counter[str]()
        self.shards: list[dict[str, Any]] = []
        self.rows: dict[str, int] = {}  # by split
        self.test_rows: dict[str, int] = {}  # by test set

    def run(self, files: list[SourceFile], tests: dict[str, list[SourceFile]]) -> None:
        """Write everything but the card, and tell what was made of what."""
        self.test_rows = {name: self._write_test(name, found) for name, found in tests.items()}
        shuffle = Shuffle(self.out / "shuffle", self.config.seed)
        self._clean_into(shuffle, files)
        held_out, rest = self._hold_out(shuffle.distinct())
        self._write_shards(self._training(rest, held_out))
        self.rows = {"train": sum(shard["rows"] for shard in self.shards)}
        for name, split in held_out.items():
            self.rows[name] = write_records(self.out / f"{name}{SUFFIX}", split)
        shutil.rmtree(self.out / "shuffle")
        self.duplicates = shuffle.duplicates
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
                "duplicates": self.duplicates,
            },
            "characters": {name: self.characters[name] for name in self.columns},
            "shards": self.shards,
            "seconds": round(seconds, 1),
            "config": to_dict(self.config) | {"sources": sources},
            "files": self.tally.files + self.test_tally.files,
            "left_out": [{"file": file.name, "why": file.role} for file in left_out[: account.LISTED]],
            "malformed": self.tally.examples,
            "notes": self.notes,
        }

    def _segments(self, files: list[SourceFile], tally: Tally) -> Iterator[Row]:
        """What the files hold, as it is: sentence pairs, or running text in pieces, which take no author."""
        for file in files:
            try:
                if self.parallel:
                    domains = Domains(file)
                    for one, other, author in read_pairs(file, self.config.languages, tally):
                        yield (one, other), author, domains.of(tally.files[-1]["rows"])
                    domains.end(tally.files[-1]["rows"])
                else:
                    for blocks in read_documents(file, tally):
                        for piece in cut_blocks(map(clean_text, blocks), self.config.max_chars):
                            yield (piece,), None, None
            except CorpusError as error:
                raise CorpusError(f"{error}{account.read_together(files) if self.parallel else ''}") from None

    def _write_test(self, name: str, files: list[SourceFile]) -> int:
        """Store a test set as it is (but for rows with an empty side) and return its number of rows."""
        records, empty, headers = [], 0, self.test_tally.headers
        for values, author, _ in self._segments(files, self.test_tally):
            sides = [value.strip("\r\n") for value in values] if self.parallel else values
            if not all(map(str.strip, sides)):
                empty += 1
                continue
            self.test_text.add(sides)
            records.append(self._record(sides, author))
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

    def _record(self, values: tuple[str, ...] | list[str], author: str | None, domain: str | None = None) -> bytes:
        record = dict(zip(self.columns, values, strict=True))
        if author and (author := clean_author(author)):
            record["author"] = author
            self.authors.add(author)
            if len(self.authors) > MAX_AUTHORS:
                raise CorpusError(
                    f"more than {MAX_AUTHORS} authors, {author!r} is one too many: each becomes a control token; "
                    "rename or remove the column"
                )
        if domain and (domain := clean_author(domain)):
            record["domain"] = domain
        return orjson.dumps(record)

    def _clean_into(self, shuffle: Shuffle, files: list[SourceFile]) -> None:
        """Add the rows that are fit for training to the shuffle, up to max_rows of them; count the others by reason."""
        clean = (PairCleaner if self.parallel else PieceFilter)(self.config, self.test_text)
        progress = Progress("corpus", unit="rows", every=2.0)
        taken = set[str]()
        for values, author, domain in self._segments(files, self.tally):
            self.read += 1
            if self.read % PROGRESS_ROWS == 0:
                progress.advance(PROGRESS_ROWS, f"{self.read:,} rows read and cleaned")
            *cleaned, reason = clean(*values)
            if reason:
                self.rejected[reason] += 1
                self.tally.leave_out(reason)
                self.first.setdefault(reason, tuple(cleaned))
                continue
            key = shuffle.key("\t".join(cleaned))
            shuffle.add(key, self._record(cleaned, author, domain))
            if self.config.max_rows:
                taken.add(key)
                if len(taken) == self.config.max_rows:
                    self.notes.append(f"stopped after max_rows = {self.config.max_rows:,} rows")
                    break
        self.tally.check(self.config.max_malformed)
        progress.done = self.read
        progress.tell(f"{self.read:,} rows read and cleaned")
        nothing = self.read == self.rejected.total()
        self.rejected += Counter(malformed=self.tally.malformed, header=self.tally.headers)
        self.read += self.tally.malformed + self.tally.headers
        if nothing:
            names, why = ", ".join(file.name for file in files[:3]), account.reasons(self.rejected)
            self._refuse(f"{names}: nothing is left after cleaning {self.read:,} rows; rejected: {why}")

    def _hold_out(self, records: Iterator[bytes]) -> tuple[dict[str, list[bytes]], Iterator[bytes]]:
        """The records of the valid and held-out splits, which are the first ones, and those to train on."""
        wanted = {"heldout": self.config.heldout_rows, "valid": self.config.valid_rows}
        head = list(itertools.islice(records, 2 * sum(wanted.values())))
        rows = len(head)
        if rows < 2 * sum(wanted.values()):
            wanted = {name: min(count, max(1, int(SMALL_SHARE * rows))) for name, count in wanted.items()}
            self.notes.append(
                f"a small corpus: of {rows:,} rows, heldout gets {wanted['heldout']:,} and valid {wanted['valid']:,}"
            )
        first, second = wanted["heldout"], sum(wanted.values())
        return {"valid": head[first:second], "heldout": head[:first]}, itertools.chain(head[second:], records)

    def _training(self, records: Iterator[bytes], held_out: dict[str, list[bytes]]) -> Iterator[bytes]:
        """The records that share no side with those held out; the characters of each column are counted."""
        sides = {orjson.loads(line)[column] for split in held_out.values() for line in split for column in self.columns}
        for line in records:
            record = orjson.loads(line)
            values = [record[column] for column in self.columns]
            if any(value in sides for value in values):
                self.rejected["heldout_side"] += 1
                continue
            for column, value in zip(self.columns, values, strict=True):
                self.characters[column] += len(value)
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
        kept, left_out = sum(self.rows.values()), account.reasons(self.rejected, self.duplicates)
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
            self.notes += [*doubtful, *account.examples(self.first, self.rejected, self.config.languages)]
        _tell(
            *account.rows_of(self.tally.files + self.test_tally.files),
            f"{self.read:,} rows read, {kept:,} kept; left out: {left_out}",
            *self.tally.examples[:1],
            *self.notes,
        )

    def _refuse(self, problem: str) -> NoReturn:
        examples = account.examples(self.first, self.rejected, self.config.languages)
        raise CorpusError("\n".join([problem, *examples]))


def _tell(*lines: str) -> None:
    for line in lines:
        print(f"corpus: {line}", flush=True)
