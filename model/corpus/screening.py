"""What is trained on: each row once, and none that is the same as what is held out, or near to it.

A row is held against the sides of the held-out, valid and test rows: ``corpus.leaks`` says whether as it is written, in
its normal form, or by likeness too (:mod:`model.corpus.likeness`). The rows that stay wait on disk, a lot for each
bucket, for the train split is made of them when near duplicates among them are known (:mod:`model.corpus.duplicates`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import zstandard

from model.config import CorpusConfig
from model.corpus import duplicates
from model.corpus.likeness import Neighbours, normal_forms, signatures
from model.corpus.storage import Bucket, distinct, read_bucket

SHOWN = 5  # examples of what each rule took


@dataclass
class Screened:
    """What became of one bucket of the shuffle."""

    rows: int = 0  # to train on
    characters: Counter[str] = field(default_factory=Counter)  # to train on, by column
    domains: Counter[str] = field(default_factory=Counter)  # rows to train on
    left_out: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    # By rule, rows that were left out, each with what it is like; a row's sides are joined by a tab.
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def keep(self, records: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
        """Count records to train on."""
        self.rows += len(records)
        for column in columns:
            self.characters[column] += sum(map(len, map(itemgetter(column), records)))
        self.domains.update(domain for record in records if (domain := record.get("domain")))

    def take_back(self, other: "Screened") -> None:
        """Do not count records that another one has kept."""
        self.rows -= other.rows
        self.characters -= other.characters
        self.domains -= other.domains

    def leave_out(self, rule: str, row: str, like: str) -> None:
        """Count a row, and keep it where few are known yet."""
        self.left_out[rule] += 1
        if len(found := self.examples.setdefault(rule, [])) < SHOWN:
            found.append((row, like))

    def add(self, other: "Screened") -> None:
        """Count what became of another bucket, too."""
        self.rows += other.rows
        self.characters += other.characters
        self.domains += other.domains
        self.left_out += other.left_out
        self.duplicates += other.duplicates
        for rule, found in other.examples.items():
            self.examples[rule] = (self.examples.get(rule, []) + found)[:SHOWN]

    def repeat(self, columns: Sequence[str], kept: bytes, record: bytes) -> None:
        """Count a record as a duplicate of the one that is kept, or as one of the same normal form."""
        one, other = (sides(orjson.loads(line), columns) for line in (kept, record))
        if one == other:
            self.duplicates += 1
        else:
            self.leave_out("same_form", "\t".join(other), "\t".join(one))


class Screen:
    """Screens the buckets of a shuffle, or records that were taken out of one, each a lot with its number.

    Args:
        work: the directory for the lots.
        held: the records of the held-out and valid splits.
        tests: the sides of the test sets; what is the same as one of them has been left out before.
    """

    def __init__(
        self, work: Path, config: CorpusConfig, columns: Sequence[str], held: Sequence[bytes], tests: Sequence[str]
    ) -> None:
        self._work, self._config, self._columns, self._formed = work, config, columns, config.leaks != "exact"
        out = [side for record in held for side in sides(orjson.loads(record), columns)]
        self._held = dict(zip(self._forms(out), out, strict=True))
        self._known = list(self._held.items())
        self._first_test = len(self._known)
        self._neighbours = None
        if config.leaks == "near":
            others = zip(self._forms(tests), tests, strict=True)
            self._known += [(form, side) for form, side in others if form not in self._held]
            self._neighbours = Neighbours([form for form, _ in self._known], config.similarity)

    def __call__(self, task: tuple[int, Bucket | list[bytes]]) -> Screened:
        """Write the bucket's distinct records that may be trained on, and what tells near duplicates among them."""
        number, found = task
        done = Screened()
        records, repeats = distinct(read_bucket(found)) if isinstance(found, Bucket) else (found, [])
        for kept_one, repeated in repeats:
            done.repeat(self._columns, kept_one, repeated)
        whole = [orjson.loads(record) for record in records]
        flat, count = [record[column] for record in whole for column in self._columns], len(self._columns)
        forms = self._forms(flat)
        near = self._neighbours.nearest(forms) if self._neighbours else [None] * len(flat)
        known = self._held.keys()
        like = {
            at // count
            for at, (form, one) in enumerate(zip(forms, near, strict=True))
            if one is not None or form in known
        }
        for place in sorted(like):
            at = slice(place * count, (place + 1) * count)
            row = "\t".join(flat[at])
            if same := next((self._held[form] for form in forms[at] if form in known), None):
                done.leave_out("heldout_side", row, same)
            else:
                other = next(one for one in near[at] if one is not None)
                done.leave_out(
                    "near_heldout" if other < self._first_test else "near_test_set", row, self._known[other][1]
                )
        kept = [place for place in range(len(whole)) if place not in like]
        done.keep([whole[place] for place in kept], self._columns)
        write_lot(self._work, number, [records[place] for place in kept])
        if self._config.duplicates == "near":
            formed = forms if self._formed else normal_forms(flat)
            signed = signatures(["\t".join(formed[place * count : (place + 1) * count]) for place in kept])
            duplicates.write_lot(self._work, number, signed, self._config.similarity)
        return done

    def _forms(self, texts: Sequence[str]) -> Sequence[str]:
        return normal_forms(texts) if self._formed else texts


def write_lot(work: Path, number: int, records: Sequence[bytes]) -> None:
    """Write the records that stay of a lot."""
    (work / f"{number}.records").write_bytes(zstandard.ZstdCompressor(level=1).compress(b"\n".join(records)))


def read_lot(work: Path, number: int) -> list[bytes]:
    """The records that stay of a lot."""
    return zstandard.ZstdDecompressor().decompress((work / f"{number}.records").read_bytes()).splitlines()


def sides(record: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """A record's values, without author and domain."""
    return [record[column] for column in columns]
