"""Rows on their way from a file to the shuffle: cleaned, or left out for a reason, and written as records."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from model.config import CorpusConfig
from model.corpus.cleaning import PairCleaner, PieceFilter, TestText, clean_author
from model.corpus.likeness import normal_form
from model.corpus.masking import mask
from model.corpus.storage import key

# A record's values in the order of its columns, and the author and the domain.
Row = tuple[tuple[str, ...], str | None, str | None]


def columns(config: CorpusConfig) -> tuple[str, ...]:
    """The names of a record's values."""
    return tuple(config.languages) if config.kind == "parallel" else ("text",)


class Cleaned(NamedTuple):
    """What became of a row."""

    values: tuple[str, ...]
    reason: str  # to leave it out; empty where it is fit for training
    key: str = ""  # of its record in the shuffle: rows that count as one have one key
    record: bytes = b""
    author: str = ""  # as it stands in the record
    masked: Counter[str] | None = None  # what was masked in it, by kind


class RowCleaner:
    """Cleans batches of rows."""

    def __init__(self, config: CorpusConfig, columns: Sequence[str], tests: TestText) -> None:
        self._clean = (PairCleaner if config.kind == "parallel" else PieceFilter)(config, tests)
        self._columns, self._seed = columns, config.seed
        self._leaks, self._duplicates = config.leaks != "exact", config.duplicates != "exact"
        self._mask = config.mask
        self._tests = {normal_form(side) for side in test_sides(tests, config)} if self._leaks else set[str]()

    def __call__(self, rows: Sequence[Row]) -> list[Cleaned]:
        """What became of each row, in their order."""
        return [self._row(*row) for row in rows]

    def _row(self, values: tuple[str, ...], author: str | None, domain: str | None) -> Cleaned:
        *cleaned, reason = self._clean(*values)
        masked: Counter[str] = Counter()
        if self._mask:
            cleaned = [mask(value, masked) for value in cleaned]
        if reason:
            return Cleaned(tuple(cleaned), reason)
        forms = [normal_form(value) for value in cleaned] if self._leaks or self._duplicates else cleaned
        if self._leaks and not self._tests.isdisjoint(forms):
            return Cleaned(tuple(cleaned), "test_set")
        content = key(self._seed, "\t".join(forms if self._duplicates else cleaned))
        written, named = make_record(self._columns, cleaned, author, domain)
        return Cleaned((), "", content, written, named, masked or None)


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
