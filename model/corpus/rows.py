"""Rows on their way from a file to the shuffle: cleaned, or left out for a reason, and written as records."""

import itertools
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
        self._tests = set(normal_forms(test_sides(tests, config))) if self._leaks else set[str]()

    def __call__(self, rows: Sequence[Row]) -> list[Cleaned]:
        """What became of each row, in their order."""
        cleaned = [self._cleaned(values) for values, _, _ in rows]
        fit = [value for values, reason, _ in cleaned if not reason for value in values]
        forms = iter(normal_forms(fit) if self._leaks or self._duplicates else fit)
        return [
            Cleaned(values, reason)
            if reason
            else self._kept(values, [*itertools.islice(forms, len(values))], author, domain, masked)
            for (values, reason, masked), (_, author, domain) in zip(cleaned, rows, strict=True)
        ]

    def _cleaned(self, values: tuple[str, ...]) -> tuple[tuple[str, ...], str, Counter[str]]:
        """The values, the reason to leave them out, and what was masked in them."""
        *cleaned, reason = self._clean(*values)
        masked: Counter[str] = Counter()
        if self._mask:
            cleaned = [mask(value, masked) for value in cleaned]
        return tuple(cleaned), reason, masked

    def _kept(
        self, values: tuple[str, ...], forms: list[str], author: str | None, domain: str | None, masked: Counter[str]
    ) -> Cleaned:
        """A row that is fit for training as its record, if its normal form is not in a test set."""
        if self._leaks and not self._tests.isdisjoint(forms):
            return Cleaned(values, "test_set")
        content = key(self._seed, "\t".join(forms if self._duplicates else values))
        return Cleaned((), "", content, *make_record(self._columns, values, author, domain), masked or None)


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
