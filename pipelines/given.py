"""Several things given in one value are taken apart, names with blanks in them are not.

make pipeline-run CORPUS="s3://bucket/a.parquet my file.tsv" SET="training.steps=50 corpus.languages=[de, en]"
"""

import os
import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")
_WORDS_OF_A_NAME = 128  # of 255 bytes, half are blanks; keeps thousands of names from taking quadratic time
_NEXT_SETTING = re.compile(r"\s+(?=[a-z]\w*(?:\.\w+)+=)")


def sources(values: Iterable[str]) -> list[str]:
    """The files and addresses in each value, which stand apart by blanks.

    Words that together name an existing file are that file, the longest name first. A value in which nothing exists and
    nothing is an address stays whole, and so does what follows an address: both are told to be missing as they are.

    >>> sources(["s3://bucket/a.parquet hf://owner/name", "absent file.tsv"])
    ['s3://bucket/a.parquet', 'hf://owner/name', 'absent file.tsv']
    """
    return [source for value in values for source in _sources(value)]


def _sources(value: str) -> list[str]:
    if os.path.exists(value):
        return [value]
    found: list[str] = []
    known = False
    words = re.findall(r"\S+\s*", value)
    while words:
        lengths = range(min(len(words), _WORDS_OF_A_NAME), 0, -1)
        length = next((n for n in lengths if os.path.exists("".join(words[:n]).rstrip())), 0)
        part = "".join(words[: length or 1]).rstrip()
        if not length and not _ADDRESS.match(part) and found and _ADDRESS.match(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
        known = known or length > 0 or bool(_ADDRESS.match(part))
        del words[: length or 1]
    return found if known else [value]


def settings(values: Iterable[str]) -> list[str]:
    """The ``section.key=value`` in each value; a new one begins at each word that looks like it.

    >>> settings(["training.steps=50 corpus.languages=[de, en]"])
    ['training.steps=50', 'corpus.languages=[de, en]']
    """
    return [setting for value in values for setting in _NEXT_SETTING.split(value.strip())]


def not_text(names: Iterable[str]) -> list[str]:
    """A problem for each name that is not UTF-8: neither JSON nor a summary can hold it."""
    wrong = [os.fsencode(name) for name in names if re.search(r"[\ud800-\udfff]", name)]
    return [f"{name!r}: the name is not UTF-8; rename it (convmv does whole folders)" for name in wrong]
