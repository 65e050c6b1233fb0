"""From shards to a clean, shuffled, split corpus: what has to be decided over all rows, in one sort on disk.

The rows of all shards are taken in the order of a seeded hash of their content
(:class:`model.corpus.storage.Shuffle`): the first become the held-out and valid splits, the rest the train split. A
train row of which a side is held out, or in a test set, or near to one that is, is left out
(:mod:`model.corpus.screening`), and the others are written (:mod:`model.corpus.trainsplit`), in several processes.
Neither their number nor that of the shards decides anything. Memory grows with what is held out and the test sets, and
with the corpus only by a few buckets of the sort, each 1/256 of it; see `python -m benchmarks.corpus`.
"""

import bisect
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from model.config import CorpusConfig
from model.corpus import account
from model.corpus.cleaning import MAX_AUTHORS, TestText
from model.corpus.counts import Counts
from model.corpus.duplicates import PARTITIONS, NearDuplicates
from model.corpus.files import CorpusError
from model.corpus.handover import ENDS, ROWS, Shard, read_shards, settings
from model.corpus.holdout import Ends, Splits, first_ones
from model.corpus.rows import columns, test_sides
from model.corpus.screening import SHOWN, Screen, Screened, read_lot, sides
from model.corpus.sources import TRAIN
from model.corpus.storage import (
    CARD,
    FORMAT_VERSION,
    SUFFIX,
    Bucket,
    buckets,
    check_place,
    part,
    read_lines,
    write_records,
)
from model.corpus.tally import Tally
from model.corpus.trainsplit import TrainWriter, train_files
from model.corpus.workers import SMALL_ROWS, Result, Task, in_order
from model.files import replace_directory, write_json
from model.languages import scripts
from model.processors import available_cpus
from model.progress import Progress


def merge_shards(
    shards: Sequence[str | Path], out: str | Path, config: CorpusConfig, holdout: str | Path | None = None
) -> dict[str, Any]:
    """Make the corpus ``out`` (a directory, replaced if it is a corpus) of all its shards, and return its card.

    Args:
        shards: directories that :func:`model.corpus.shard.write_shard` has written, in any order; they stay so.
        holdout: a directory of its own for all splits but the train split, with the same card; None for ``out``.

    Raises:
        CorpusError: when they are not the shards of one corpus, or too little is left; ``out`` is as it was before.
    """
    check_places(out, holdout)
    return replace_directory(Path(out), lambda partial: merge_into(partial, [*map(Path, shards)], config, holdout))


def check_places(out: str | Path, holdout: str | Path | None) -> None:
    """Refuse to write over what is no corpus.

    Raises:
        CorpusError: when a directory holds something else.
    """
    for place in (out, *([] if holdout is None else [holdout])):
        check_place(Path(place))


def merge_into(
    out: Path, shards: Sequence[Path], config: CorpusConfig, holdout: str | Path | None = None
) -> dict[str, Any]:
    """As :func:`merge_shards`, into a directory that is there."""
    started = time.monotonic()
    merge = _Merge(out, config, read_shards(shards, config))
    merge.run()
    card = merge.card(started)
    if holdout is not None:
        replace_directory(Path(holdout), lambda other: part(out, other, card))
        card["holds"] = [TRAIN]
    write_json(out / CARD, card)
    return card


class _Merge:
    """A corpus in the making in the directory ``out``: what became of every row is added up here, for its card."""

    def __init__(self, out: Path, config: CorpusConfig, shards: Sequence[Shard]) -> None:
        self.out, self.config, self.shards = out, config, shards
        self.work = out / "screened"
        self.first = shards[0].card
        self.parallel, self.columns = config.kind == "parallel", columns(config)
        self.counts, self.test_text = Counts(Tally(config.languages)), TestText()
        self.notes: list[str] = [*self.first["notes"]]
        self.screened = Screened()
        self.files: list[dict[str, Any]] = []
        self.rows: dict[str, int] = {}  # by split

    def run(self) -> None:
        """Write everything but the card, and tell what was made of what."""
        self._take_tests()
        self._add_up()
        found = buckets((shard.place / ROWS, shard.card["buckets"]) for shard in self.shards)
        if self.config.held_out_end:
            held_out, rest = self._ends().splits(self.screened), list[bytes]()
        else:
            held_out, rest = first_ones(found, self.config, self.columns, self.screened, self.notes.append)
        self.work.mkdir()
        rows = self._screen(rest, found, held_out)
        self._write_train(rows, self._near_duplicates(rows))
        shutil.rmtree(self.work)
        self.rows = {"train": sum(file["rows"] for file in self.files)}
        for name, split in held_out.items():
            self.rows[name] = write_records(self.out / f"{name}{SUFFIX}", split)
        self.counts.rejected += self.screened.left_out
        self._conclude()

    def card(self, started: float) -> dict[str, Any]:
        """What ``corpus.json`` says."""
        counts, sources = self.counts, self.first["config"]["sources"]
        seconds = sum(shard.card["seconds"] for shard in self.shards) + time.monotonic() - started
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.config.kind,
            "languages": self.config.languages,
            "authors": sorted(counts.authors),
            "domains": dict(sorted(self.screened.domains.items())),
            "sources": sources,
            "counts": {
                "read": counts.read,
                "kept": sum(self.rows.values()),
                **self.rows,
                "test": self.first["tests"]["rows"],
                "rejected": dict(sorted(counts.rejected.items())),
                "duplicates": self.screened.duplicates,
                "masked": dict(sorted(counts.masked.items())),
            },
            "characters": {name: self.screened.characters[name] for name in self.columns},
            "shards": self.files,
            "seconds": round(seconds, 1),
            "config": settings(self.config, sources),
            "files": counts.tally.files + self.first["tests"]["files"],
            "left_out": self.first["left_out"],
            "malformed": counts.tally.examples,
            "examples": {
                **{rule: [account.example(row) for row in rows] for rule, rows in counts.taken.items()},
                **{
                    rule: [account.example(row.split("\t"), like) for row, like in found]
                    for rule, found in self.screened.examples.items()
                },
            },
            "notes": self.notes,
        }

    def _take_tests(self) -> None:
        """Take the test sets over from the first shard, and know what must not be trained on."""
        for name in self.first["tests"]["rows"]:
            path = Path("test", f"{name}{SUFFIX}")
            (self.out / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(self.shards[0].place / path, self.out / path)
            rows = map(orjson.loads, read_lines(self.out / path))
            self.test_text.add(itertools.chain.from_iterable(sides(row, self.columns) for row in rows))

    def _add_up(self) -> None:
        """Add up what the shards have counted, in their order, and refuse text of which too much cannot be used."""
        counts = self.counts
        for shard in self.shards:
            counts.add(Counts.from_dict(shard.card["counts"], self.config.languages), goes_on=shard.card["goes_on"])
        counts.tally.check(self.config.max_malformed)
        nothing = counts.read == counts.rejected.total()
        counts.rejected += Counter(malformed=counts.tally.malformed, header=counts.tally.headers)
        counts.read += counts.tally.malformed + counts.tally.headers
        if nothing:
            names = ", ".join(file["file"] for file in counts.tally.files[:3])
            why = account.reasons(counts.rejected)
            self._refuse(f"{names}: nothing is left after cleaning {counts.read:,} rows; rejected: {why}")

    def _ends(self) -> Ends:
        """What stood at the ends of files."""
        ends = Ends(self.config, self.columns)
        for line in itertools.chain.from_iterable(read_lines(shard.place / ENDS) for shard in self.shards):
            split, key, record = line.split(b" ", 2)
            ends.add(split.decode(), key.decode(), record)
        return ends

    def _screen(self, rest: list[bytes], found: list[Bucket], held_out: Splits) -> list[int]:
        """Write the records to train on, neither held out nor near to what is, as lots; the rows of each."""
        held = [line for split in held_out.values() for line in split]
        arguments = (self.work, self.config, self.columns, held, test_sides(self.test_text, self.config))
        lots: list[Bucket | list[bytes]] = [rest, *found]
        rows = []
        for done in self._in_processes(Screen, arguments, [*enumerate(lots)], "rows held against others"):
            self.screened.add(done)
            rows.append(done.rows)
        if one_too_many := [*self.screened.domains][MAX_AUTHORS:]:
            raise CorpusError(f"more than {MAX_AUTHORS} domains, {one_too_many[0]!r} is one too many; name fewer")
        return rows

    def _near_duplicates(self, rows: Sequence[int]) -> bytearray:
        """A byte for each row of the lots, 1 where it is near to one before it and is left out."""
        dropped, near = bytearray(sum(rows)), dict[int, int]()
        if self.config.duplicates != "near":
            return dropped
        arguments = (self.work, rows, self.config.similarity)
        for pairs in self._in_processes(NearDuplicates, arguments, range(PARTITIONS), "near duplicates found"):
            for row, first in pairs:
                if not dropped[row]:
                    dropped[row], near[row] = 1, first
            near = {row: near[row] for row in sorted(near)[:SHOWN]}
        for pair in near.items():
            self.screened.leave_out("near_duplicate", *(self._row(rows, number) for number in pair))
        self.screened.left_out["near_duplicate"] = sum(dropped)
        return dropped

    def _row(self, rows: Sequence[int], number: int) -> str:
        """The sides of a row of the lots."""
        ends = [*itertools.accumulate(rows)]
        lot = bisect.bisect_right(ends, number)
        record = read_lot(self.work, lot)[number - ends[lot] + rows[lot]]
        return "\t".join(sides(orjson.loads(record), self.columns))

    def _write_train(self, rows: Sequence[int], dropped: bytearray) -> None:
        """Write the rows of the lots that stay."""
        files = [*enumerate(train_files(rows, dropped, self.config.shard_rows))]
        for file in self._in_processes(TrainWriter, (self.out, self.work, self.columns), files, "train split written"):
            self.screened.take_back(file.left_out)
            if file.rows:
                self.files.append({"file": file.name, "rows": file.rows, "sha256": file.sha256})

    def _in_processes(
        self,
        make: Callable[..., Callable[[Task], Result]],
        arguments: tuple[Any, ...],
        tasks: Sequence[Task],
        what: str,
    ) -> Iterator[Result]:
        """The result of every task, in order; of a large corpus it is told how far ``what`` is done."""
        large = self.counts.read > SMALL_ROWS
        processes, progress = (
            (self.config.processes or available_cpus()) if large else 1,
            Progress("corpus", len(tasks)),
        )
        for _, done in in_order(make, arguments, ((None, task) for task in tasks), processes, small=0):
            yield done
            if large:
                progress.advance(1, what)

    def _conclude(self) -> None:
        """Refuse a corpus with nothing to train on; note what is worth knowing, and tell it."""
        counts, files = self.counts, self.counts.tally.files
        kept, left_out = sum(self.rows.values()), account.reasons(counts.rejected, self.screened.duplicates)
        if not self.rows["train"]:
            self._refuse(account.too_few(kept, counts.read, left_out, self.config))
        if domains := self.screened.domains:
            told = ", ".join(f"{name} {count:,}" for name, count in domains.most_common())
            self.notes.append(f"domains of the rows to train on: {told}")
        if nameless := counts.tally.nameless:
            self.notes.append(f"{nameless:,} rows have an author that is not text, and are kept without it")
        if unknown := [code for code in self.config.languages if not scripts(code)]:
            self.notes.append(f"not judged by script: {', '.join(unknown)}, of which model/languages.py knows none")
        if doubtful := account.doubtful(files) if self.parallel else []:
            self.notes += [*doubtful, *account.examples(counts.taken, counts.rejected, self.config.languages)]
        account.tell(
            *account.rows_of(files + self.first["tests"]["files"]),
            f"{counts.read:,} rows read, {kept:,} kept; left out: {left_out}",
            *counts.tally.examples[:1],
            *self.notes,
        )

    def _refuse(self, problem: str) -> NoReturn:
        examples = account.examples(self.counts.taken, self.counts.rejected, self.config.languages)
        raise CorpusError("\n".join([problem, *examples]))
