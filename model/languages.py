"""Languages and the scripts they are written in: shared by the corpus's cleaning and by serving.

A language that is not listed is taken to be written in Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Blocks of letters, for use inside a character class; the names are Unicode's.
SCRIPTS = {
    "Latin": "A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿＡ-Ｚａ-ｚ",
    "Cyrillic": "Ѐ-ԯᲀ-ᲊꙀ-ꚟ",
    "Greek": "Ͱ-Ͽἀ-῾",
    "Armenian": "Ա-և",
    "Georgian": "Ⴀ-ჿᲐ-Ჿ",
    "Hebrew": "א-ת",
    "Arabic": "ء-ۿݐ-ݿࢠ-ࣿ",
    "Devanagari": "ऀ-ॿ",
    "Thai": "ก-๛",
    "Hangul": "ᄀ-ᇿ가-힣",
    "Han": "㐀-䶿一-鿿",
    "Japanese": "ぁ-ヿ㐀-䶿一-鿿",
}
# Languages written in something other than Latin; a further language is a line here.
LANGUAGE_SCRIPTS = {
    **dict.fromkeys(("ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "mn", "tg", "tt"), "Cyrillic"),
    **{"el": "Greek", "hy": "Armenian", "ka": "Georgian", "he": "Hebrew", "hi": "Devanagari", "mr": "Devanagari"},
    **{"ar": "Arabic", "fa": "Arabic", "ur": "Arabic", "th": "Thai", "ko": "Hangul", "zh": "Han", "ja": "Japanese"},
}


def script(code: str) -> str:
    """Name of the script of a language code such as ``ru`` or ``pt-BR``."""
    return LANGUAGE_SCRIPTS.get(re.split("[-_]", code.lower())[0], "Latin")


def language_of(text: str, languages: Sequence[str]) -> str | None:
    """Which of the languages a text is written in, by its letters.

    None when they cannot tell: two of the languages share a script, or the text has no letter of any of them, or as
    many of one as of another.
    """
    scripts = [script(code) for code in languages]
    if len(set(scripts)) < len(scripts):
        return None
    letters = [len(re.findall(f"[{SCRIPTS[name]}]", text)) for name in scripts]
    best = max(letters)
    return languages[letters.index(best)] if best and letters.count(best) == 1 else None
