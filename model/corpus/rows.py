"""Rows on their way from a file to the shuffle: cleaned, or left out for a reason, and written as records."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from model.config import CorpusConfig
from model.corpus.cleaning import PairCleaner, PieceFilter, TestText, clean_author
from model.corpus.likeness import normal_forms
from model.corpus.masking import mask
from model.corpus.storage import key

# A record's values in the order of its columns, and the author and the domain.
Row = tuple[tuple[str, ...], str | None, str | None]


def columns(config: CorpusConfig) -> tuple[str, ...]:
    """The names of a record's values."""
    return tuple(config.languages) if config.kind == "parallel" else ("text",)


class Cleaned(NamedTuple):
    """What became of some rows, in their order: plain lists, which are soon handed from process to process."""

    lines: list[bytes]  # those that are fit for training, for the shuffle: rows that count as one have one key
    rejected: list[tuple[str, tuple[str, ...]]]  # the others: the reason, and their values
    authors: list[str]  # of those that are fit, as they stand in the records
    masked: Counter[str]  # what was masked in those, by kind


class RowCleaner:
    """Cleans batches of rows."""

    def __init__(self, config: CorpusConfig, columns: Sequence[str], tests: TestText) -> None:
        self._clean = (PairCleaner if config.kind == "parallel" else PieceFilter)(config, tests)
        self._columns, self._seed = columns, config.seed
        self._leaks, self._duplicates = config.leaks != "exact", config.duplicates != "exact"
        self._mask = config.mask
        self._tests = set(normal_forms(test_sides(tests, config))) if self._leaks else set[str]()

    def __call__(self, rows: Sequence[Row]) -> Cleaned:
        """What became of the rows."""
        cleaned = Cleaned([], [], [], Counter())
        found: Sequence[tuple[str, ...]] = self._clean([values for values, _, _ in rows])
        masked = [Counter[str]() for _ in found] if self._mask else []
        if masked:
            found = [(*(mask(text, of) for text in row), why) for (*row, why), of in zip(found, masked, strict=True)]
        fit = [text for row in found if not row[-1] for text in row[:-1]]
        forms = iter(normal_forms(fit) if self._leaks or self._duplicates else fit)
        sides = zip(*[forms] * len(self._columns), strict=True)  # of each fit row
        for number, ((*values, reason), (_, author, domain)) in enumerate(zip(found, rows, strict=True)):
            own = () if reason else next(sides)
            if reason or (self._leaks and not self._tests.isdisjoint(own)):
                cleaned.rejected.append((reason or "test_set", tuple(values)))
                continue
            record, named = make_record(self._columns, values, author, domain)
            content = "\t".join(own if self._duplicates else values)
            cleaned.lines.append(key(self._seed, content).encode() + record)
            if named:
                cleaned.authors.append(named)
            if masked:
                cleaned.masked.update(masked[number])
        return cleaned


def test_sides(tests: TestText, config: CorpusConfig) -> list[str]:
    """The sides of the test sets, in the form in which a row would have them."""
    return sorted({mask(side, Counter()) for side in tests.sides} if config.mask else tests.sides)


def make_record(
    columns: Sequence[str], values: Sequence[str], author: str | None, domain: str | None = None
) -> tuple[bytes, str]:
    """A row as a line of a split, and its author's name there, empty without one."""
    record = dict(zip(columns, values, strict=True))
    if author and (author := clean_author(author)):
        record["author"] = author
    if domain and (domain := clean_author(domain)):
        record["domain"] = domain
    return orjson.dumps(record), author or ""
