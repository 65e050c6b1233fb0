"""What became of the rows on their way into a shard: counted there, handed over with it, and added up in the merge."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.corpus.account import EXAMPLE_CHARS
from model.corpus.cleaning import MAX_AUTHORS
from model.corpus.files import CorpusError
from model.corpus.screening import SHOWN
from model.corpus.tally import Tally


@dataclass
class Counts:
    """Rows read and rejected, the first ones that each reason took, authors, what was masked; in the text's order."""

    tally: Tally
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    taken: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)  # the first rows that each reason took
    masked: Counter[str] = field(default_factory=Counter)  # by kind, in the rows that are fit
    authors: dict[str, None] = field(default_factory=dict)  # a set that keeps its order

    def reject(self, reason: str, values: Sequence[str], file: Mapping[str, Any]) -> None:
        """Count a row of a file that cleaning has rejected."""
        self.rejected[reason] += 1
        file["rejected"][reason] += 1
        if len(rows := self.taken.setdefault(reason, [])) < SHOWN:
            rows.append(tuple(value[:EXAMPLE_CHARS] for value in values))

    def name(self, author: str) -> None:
        """Know an author, unless the name is empty.

        Raises:
            CorpusError: when there are too many.
        """
        if author:
            self.authors[author] = None
            if len(self.authors) > MAX_AUTHORS:
                raise CorpusError(
                    f"more than {MAX_AUTHORS} authors, {author!r} is one too many: each becomes a control token; "
                    "rename or remove the column"
                )

    def add(self, other: "Counts", *, goes_on: bool) -> None:
        """Count the rows that follow; ``goes_on`` says that they begin within the file that these have ended in.

        Raises:
            CorpusError: when there are too many authors.
        """
        self.tally.join(other.tally, goes_on=goes_on)
        self.read += other.read
        self.rejected += other.rejected
        self.masked += other.masked
        for reason, rows in other.taken.items():
            self.taken[reason] = (self.taken.get(reason, []) + rows)[:SHOWN]
        for author in other.authors:
            self.name(author)

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` makes the same of again, fit for JSON."""
        return {**vars(self), "tally": self.tally.to_dict(), "authors": [*self.authors]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], languages: Sequence[str]) -> "Counts":
        """The counts that this tells of."""
        counters = {name: Counter(data[name]) for name in ("rejected", "masked")}
        tally, authors = Tally.from_dict(data["tally"], languages), dict.fromkeys(data["authors"])
        return cls(**{**data, **counters, "tally": tally, "authors": authors})
