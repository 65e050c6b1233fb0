"""Whether the first row of a .tsv names its columns: then it is no pair, and may say that their order is another."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

# What columns are called whatever the languages; and the languages' names in English and in themselves, as CLDR has
# them. English, which another language's speakers name most, stands there in theirs too.
_TABLE = json.loads(Path(__file__).with_name("columns.json").read_text("utf-8"))
_SPLIT = re.compile(r"[\s_\-.:;,/#\"()\[\]{}<>]+")


def header(sides: Sequence[str], languages: Sequence[str]) -> str:
    """ "own" for a row that names its columns, "swapped" where it names the languages the other way round, or ""."""
    words = [_SPLIT.split(side.strip(' \t\r"#([<{_').rstrip(' \t\r")]>}_.:').casefold()) for side in sides]
    if any(not 1 <= len(cell) <= 3 for cell in words) or len(languages) != len(sides):
        return ""
    codes = [re.split("[-_]", code.casefold()) for code in languages]
    names = [{*parts, *_TABLE["languages"].get(parts[0], "").split()} for parts in codes]
    own = [not names[i].isdisjoint(cell) for i, cell in enumerate(words)]
    if all(not names[1 - i].isdisjoint(cell) for i, cell in enumerate(words)) and not any(own):
        return "swapped"
    known = set(_TABLE["columns"].split()).union(*names)
    if all(known.issuperset(cell) for cell in words):
        return "own"
    # A name of the column's own language beside one word: the other language's name in a third, as a rule.
    return "own" if any(own) and all(len(cell) == 1 and cell[0].isalpha() for cell in words) else ""
