"""One shard of a corpus in the making: what becomes of a stretch of the text's rows, each by itself.

Reading, cleaning, the form in which rows count as one, masking and finding a row's language ask nothing of other rows,
and take the larger part of the time. What has to be decided over all rows is left to the merge (model/corpus/merge.py).
"""

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from model.config import CorpusConfig
from model.corpus import account
from model.corpus.cleaning import TestText
from model.corpus.counts import Counts
from model.corpus.files import CorpusError, SourceFile, display
from model.corpus.handover import CARD, ENDS, FORMAT_VERSION, ROWS, settings
from model.corpus.rows import RowCleaner, columns, make_record
from model.corpus.segments import batches, segments
from model.corpus.shares import Share, shares
from model.corpus.sources import TEST, TRAIN, gather
from model.corpus.storage import KEY_CHARS, SUFFIX, Shuffle, write_records
from model.corpus.tally import Tally
from model.corpus.workers import SMALL_ROWS, in_order
from model.files import replace_directory, write_json
from model.processors import available_cpus
from model.progress import Progress

BATCH_ROWS = 1000  # cleaned at a time


def write_shard(
    sources: Sequence[str],
    tests: Sequence[str],
    out: str | Path,
    config: CorpusConfig,
    number: int = 0,
    of: int | None = None,
) -> dict[str, Any]:
    """Write the shard ``number``, from 0 on, to the directory ``out``, and return what it tells of itself.

    Args:
        sources: as for :func:`model.corpus.prepare.prepare_corpus`, and so ``tests``; the same for all shards.
        of: how many there are to be, where that was settled before ``config`` was read.

    Raises:
        CorpusError: when a source cannot be used, or there is no such shard, or ``of`` is not what ``config`` says.
    """
    if (of or config.shards) != config.shards:
        raise CorpusError(
            f"{of} shards are prepared, and corpus.shards is {config.shards}: compile the pipeline with this setting, "
            f"or set it to {of}"
        )
    if not 0 <= number < config.shards:
        raise CorpusError(f"there is no shard {number}: {config.shards} are numbered from 0 to {config.shards - 1}")
    sources = [*sources] or config.sources
    if not sources:
        raise CorpusError("no text is given, and corpus.sources names none; give a file, a folder or an address")
    started = time.monotonic()
    files, test_files = gather(sources, [*tests], config)
    left_out = [file for file in files if file.role not in (TRAIN, TEST)]
    account.tell(*account.left_out(left_out) if not number else ())
    files = [file for file in files if file.role == TRAIN]

    def fill(partial: Path) -> dict[str, Any]:
        shard = _Shard(partial, config)
        test_rows = {name: shard.write_test(name, found) for name, found in test_files.items()}
        read = shares(files, number, config.shards, whole=config.held_out_end > 0)
        told = {
            "format_version": FORMAT_VERSION,
            "number": number,
            "of": config.shards,
            "text": _identity([*files, *(file for found in test_files.values() for file in found)]),
            "config": settings(config, [*map(display, sources)]),
            "left_out": [{"file": file.name, "why": file.role} for file in left_out[: account.LISTED]],
            "goes_on": any(share.begin for share in read[:1]),
            "buckets": shard.clean(read, files),
            "tests": {"rows": test_rows, "files": shard.test_tally.files},
            "notes": shard.notes,
            "counts": shard.counts.to_dict(),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(partial / CARD, told)
        return told

    return replace_directory(Path(out), fill)


class _Shard:
    """A shard in the making in the directory ``out``."""

    def __init__(self, out: Path, config: CorpusConfig) -> None:
        self.out, self.config = out, config
        self.parallel = config.kind == "parallel"
        self.columns = columns(config)
        self.counts, self.test_tally = Counts(Tally(config.languages)), Tally(config.languages)
        self.test_text = TestText()
        self.notes = list[str]()

    def write_test(self, name: str, files: list[SourceFile]) -> int:
        """Store a test set as it is (but for rows with an empty side) and return its number of rows."""
        records, texts, empty, headers = [], list[str](), 0, self.test_tally.headers
        for row, author, _ in (row for file in files for row in segments(file, self.config, self.test_tally, files)):
            values = [value.strip("\r\n") for value in row] if self.parallel else row
            if not all(map(str.strip, values)):
                empty += 1
                continue
            texts += values
            record, named = make_record(self.columns, values, author)
            self.counts.name(named)
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
        self.test_text.add(texts)
        return write_records(self.out / "test" / f"{name}{SUFFIX}", records)

    def clean(self, read: Sequence[Share], files: Sequence[SourceFile]) -> Mapping[str, int]:
        """Write the rows that are fit for training, up to max_rows of them; count the others by reason.

        Returns:
            The bytes of each bucket.
        """
        config, counts = self.config, self.counts
        progress = Progress("corpus", unit="rows", every=2.0)
        shuffle, taken = Shuffle(self.out / "shuffle"), set[bytes]()
        # Where rows are counted up to max_rows, none is read that is not needed.
        size, processes = (1, 1) if config.max_rows else (BATCH_ROWS, config.processes or available_cpus())
        with (
            (self.out / ENDS).open("wb") as stream,
            zstandard.ZstdCompressor(level=1).stream_writer(stream) as ends,
            contextlib.closing(batches(read, config, counts.tally, size, self.out / "text", files)) as rows,
        ):
            arguments = (config, self.columns, self.test_text)
            for (file, split), batch in in_order(RowCleaner, arguments, rows, processes, SMALL_ROWS // BATCH_ROWS):
                for reason, values in batch.rejected:
                    counts.reject(reason, values, file)
                for author in batch.authors:
                    counts.name(author)
                counts.masked.update(batch.masked)
                for line in batch.lines:
                    if split not in ("", TRAIN):
                        ends.write(f"{split} ".encode() + line[:KEY_CHARS] + b" " + line[KEY_CHARS:] + b"\n")
                        continue
                    shuffle.add(line)
                    if config.max_rows:
                        taken.add(line[:KEY_CHARS])
                rows_done = len(batch.lines) + len(batch.rejected)
                counts.read += rows_done
                progress.advance(rows_done, f"{counts.read:,} rows read and cleaned")
                if taken and len(taken) == config.max_rows:
                    self.notes.append(f"stopped after max_rows = {config.max_rows:,} rows")
                    break
        progress.tell(f"{counts.read:,} rows read and cleaned")
        return shuffle.pack(self.out / ROWS)


def _identity(files: Sequence[SourceFile]) -> str:
    """A hash of the names and sizes of files, by which shards know that they have read the same."""
    return hashlib.sha256(repr([(file.name, file.size) for file in files]).encode()).hexdigest()
