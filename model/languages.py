"""Languages and the scripts they are written in: shared by the corpus's cleaning and by serving.

The scripts' letters are Unicode's, the languages' scripts those in use today. A language that is not listed, and whose
code names no script (as ``rus_Cyrl`` does), is not judged by its script: no guess is better than a wrong one.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

# Of each script its name, its ISO 15924 code, its letters for use inside a character class, and the languages that are
# written in it. A further language is a word there; one with several scripts stands at each of them. Kana and Chinese
# characters, which write Japanese together, are a script of their own.
_TABLE = json.loads(Path(__file__).with_name("scripts.json").read_text("utf-8"))
SCRIPTS: dict[str, str] = {row["script"]: row["letters"] for row in _TABLE}
_BY_SUBTAG = {row["code"].lower(): row["script"] for row in _TABLE}
_BY_SUBTAG |= {"hans": "Han", "hant": "Han", "kore": "Hangul", "hira": "Japanese", "kana": "Japanese"}
_BY_LANGUAGE: dict[str, tuple[str, ...]] = {}
for _row in _TABLE:
    for _code in " ".join(_row["languages"]).split():
        _BY_LANGUAGE[_code] = (*_BY_LANGUAGE.get(_code, ()), _row["script"])

# A letter of an alphabet is 1, a syllable's sign 2, a Chinese character 3: in the translations of Django, Sphinx and
# WTForms Chinese has 0.35 characters for one of English, Korean 0.55, Japanese 0.57, every one of 70 alphabetic
# languages 0.76 to 1.32.
_SYLLABLES = "ぁ-ヿㇰ-ㇿｦ-ﾟ" + "".join(
    SCRIPTS[name] for name in ("Hangul", "Ethiopic", "Yi", "Cherokee", "Canadian_Aboriginal")
)
_DENSE = re.compile(f"([{_SYLLABLES}]+)|([{SCRIPTS['Han']}]+)")
# Quick to tell that most texts have nothing to weigh: what lies between is punctuation and symbols.
_PERHAPS_DENSE = re.compile("[\u1100-\u1fff\u2d80-\U0010ffff]")


@lru_cache(256)
def primary(code: str) -> str:
    """The language of a code, without its script or country: ``pt`` of ``pt-BR``."""
    return re.split("[-_]", code.lower())[0]


@lru_cache(256)
def scripts(code: str) -> tuple[str, ...]:
    """Names of the scripts of a language code such as ``ru``, ``pt-BR`` or ``sr_Latn``; none when it is not known."""
    language, *subtags = re.split("[-_]", code.lower())
    named = [_BY_SUBTAG[subtag] for subtag in subtags if subtag in _BY_SUBTAG]
    return tuple(named) or _BY_LANGUAGE.get(language, ())


def length(text: str) -> int:
    """The text's length in letters of an alphabet, whatever script it is in: signs that say more count for more."""
    if not _PERHAPS_DENSE.search(text):
        return len(text)
    return len(text) + sum(len(syllables) + 2 * len(chinese) for syllables, chinese in _DENSE.findall(text))


def lengths(texts: Sequence[str]) -> list[int]:
    """The :func:`length` of each text, looked at all at once."""
    return [*map(length if _PERHAPS_DENSE.search("".join(texts)) else len, texts)]


def language_of(text: str, languages: Sequence[str]) -> str | None:
    """Which of the languages a text is written in, by its letters.

    None when they cannot tell: a language's script is not known, the text has no letter of any of them, or as many of
    one as of another, as where two share the script that it is written in.
    """
    written = [scripts(code) for code in languages]
    if not all(written):
        return None
    # A language that has several scripts uses one at a time.
    letters = [max(count_letters(name, text) for name in names) for names in written]
    best = max(letters)
    return languages[letters.index(best)] if best and letters.count(best) == 1 else None


def script_of(text: str) -> str:
    """Name of the script that most of the text's letters are in, or "no script"."""
    letters = {name: count_letters(name, text) for name in SCRIPTS}
    best = max(letters, key=lambda name: letters[name])  # the first of equals: Chinese before Japanese
    return best if letters[best] else "no script"


def count_letters(script: str, text: str) -> int:
    """How many letters of a script a text has."""
    return sum(map(len, _letters(script).findall(text)))


@lru_cache
def _letters(script: str) -> re.Pattern[str]:
    return re.compile(f"[{SCRIPTS[script]}]+")
