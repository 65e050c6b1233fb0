"""What each rule of the corpus took away: its rows, a sentence, the setting that changes it, and examples."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from model.corpus_rules import RULES, setting_of


class Rule(NamedTuple):
    """A rule that took rows; an example has the sides of a ``row``, and of one that it is ``like``."""

    name: str
    rows: int
    sentence: str
    setting: str
    examples: list[Mapping[str, list[str]]]


def rules(card: Mapping[str, Any]) -> list[Rule]:
    """The rules that took rows, the one with the most of them first."""
    counts = card.get("counts") or {}
    rows = Counter({**(counts.get("rejected") or {}), "duplicates": counts.get("duplicates") or 0})
    examples = card.get("examples") or {}
    return [
        Rule(name, number, RULES.get(name, ""), setting_of(name), examples.get(name, []))
        for name, number in rows.most_common()
        if number
    ]
