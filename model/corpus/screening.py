"""What is trained on: each row once, and none that is the same as what is held out, or near to it.

A row is held against the sides of the held-out, valid and test rows: ``corpus.leaks`` says whether as it is written, in
its normal form, or by likeness too (:mod:`model.corpus.likeness`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from model.config import CorpusConfig
from model.corpus.likeness import Neighbours, normal_forms, signatures
from model.corpus.storage import Bucket, distinct, read_bucket

SHOWN = 5  # examples of what each rule took


@dataclass
class Screened:
    """What became of one bucket of the shuffle."""

    records: list[bytes] = field(default_factory=list)  # to train on, in their order
    signatures: npt.NDArray[np.uint32] | None = None  # of the records, where near duplicates are looked for
    characters: Counter[str] = field(default_factory=Counter)  # to train on, by column
    domains: Counter[str] = field(default_factory=Counter)  # rows to train on
    left_out: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    # By rule, rows that were left out, each with what it is like; a row's sides are joined by a tab.
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def keep(self, record: Mapping[str, str], columns: Sequence[str]) -> None:
        """Count a record to train on."""
        for column in columns:
            self.characters[column] += len(record[column])
        if domain := record.get("domain"):
            self.domains[domain] += 1

    def leave_out(self, rule: str, row: str, like: str) -> None:
        """Count a row, and keep it where few are known yet."""
        self.left_out[rule] += 1
        if len(found := self.examples.setdefault(rule, [])) < SHOWN:
            found.append((row, like))

    def add(self, other: "Screened") -> None:
        """Count what became of another bucket, too; its records are not kept."""
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
    """Screens the buckets of a shuffle, or records that were taken out of one.

    Args:
        held: the records of the held-out and valid splits.
        tests: the sides of the test sets; what is the same as one of them has been left out before.
    """

    def __init__(
        self, config: CorpusConfig, columns: Sequence[str], held: Sequence[bytes], tests: Sequence[str]
    ) -> None:
        self._columns, self._formed, self._pairs = columns, config.leaks != "exact", config.duplicates == "near"
        out = [side for record in held for side in sides(orjson.loads(record), columns)]
        self._held = dict(zip(self._forms(out), out, strict=True))
        self._known = list(self._held.items())
        self._first_test = len(self._known)
        self._neighbours = None
        if config.leaks == "near":
            others = zip(self._forms(tests), tests, strict=True)
            self._known += [(form, side) for form, side in others if form not in self._held]
            self._neighbours = Neighbours([form for form, _ in self._known], config.similarity)

    def __call__(self, task: Bucket | list[bytes]) -> Screened:
        """The bucket's distinct records that may be trained on; counted, unless near duplicates are among them yet."""
        done = Screened()
        records, repeats = distinct(read_bucket(task)) if isinstance(task, Bucket) else (task, [])
        for one, other in repeats:
            done.repeat(self._columns, one, other)
        whole = [orjson.loads(record) for record in records]
        rows = [sides(record, self._columns) for record in whole]
        flat, count = self._forms([side for row in rows for side in row]), len(self._columns)
        forms = [flat[begin : begin + count] for begin in range(0, len(flat), count)]
        near = self._neighbours.nearest(flat) if self._neighbours else []
        kept = []
        for number, (row, form) in enumerate(zip(rows, forms, strict=True)):
            like = next((one for one in near[number * count : (number + 1) * count] if one is not None), None)
            if same := next((self._held[one] for one in form if one in self._held), None):
                done.leave_out("heldout_side", "\t".join(row), same)
            elif like is not None:
                rule = "near_heldout" if like < self._first_test else "near_test_set"
                done.leave_out(rule, "\t".join(row), self._known[like][1])
            else:
                kept.append(number)
                if not self._pairs:
                    done.keep(whole[number], self._columns)
        done.records = [records[number] for number in kept]
        if self._pairs:
            formed = flat if self._formed else normal_forms(flat)
            done.signatures = signatures(["\t".join(formed[n * count : (n + 1) * count]) for n in kept])
        return done

    def _forms(self, texts: Sequence[str]) -> Sequence[str]:
        return normal_forms(texts) if self._formed else texts


def sides(record: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """A record's values, without author and domain."""
    return [record[column] for column in columns]
