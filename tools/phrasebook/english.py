"""English inflection for the phrasebook: articles, plurals, verb forms, numbers.

python -c "from tools.phrasebook.english import article; print(article('hour'), article('university'))"
"""

import re
from collections.abc import Callable

PLURALS = {
    "person": "people", "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth",
    "knife": "knives", "shelf": "shelves", "wife": "wives", "mouse": "mice", "sheep": "sheep", "fish": "fish",
    "photo": "photos", "scarf": "scarves", "watchman": "watchmen", "trousers": "trousers", "jeans": "jeans",
}  # fmt: skip
PASTS = {
    "be": "was", "break": "broke", "bring": "brought", "buy": "bought", "choose": "chose", "find": "found",
    "forget": "forgot", "get": "got", "give": "gave", "have": "had", "hide": "hid", "lose": "lost", "sell": "sold",
    "send": "sent", "take": "took",
}  # fmt: skip
UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
DETERMINERS = frozenset({"a", "any", "the", "this", "that", "my", "your", "our"})
# Russian pronoun: subject, object, possessive
PRONOUNS = {
    "я": ("I", "me", "my"), "ты": ("you", "you", "your"), "он": ("he", "him", "his"), "она": ("she", "her", "her"),
    "мы": ("we", "us", "our"), "они": ("they", "them", "their"),
}  # fmt: skip
SUBJECTS = frozenset(subject for subject, _, _ in PRONOUNS.values())
BE_PRESENT = {"I": "am", "he": "is", "she": "is"}
SUFFIXES = {"be": {"am": "'m", "is": "'s", "are": "'re"}, "have": {"have": "'ve", "has": "'s"}}


def article(word: str) -> str:
    """ "a" or "an" by sound, not by letter."""
    if re.match(r"(?:uni|use|euro|one|u$)", word, re.I):
        return "a"
    return "an" if re.match(r"[aeiou]|hour|honest|8|11\b|18\b", word, re.I) else "a"


def plural(noun: str) -> str:
    """The plural of a singular noun; of several words the last one changes."""
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last) or _with_s(last)}".strip()


def hisses(word: str) -> bool:
    """Whether a word's ending takes -es in the plural and no 's for "is"."""
    return bool(re.search(r"(?:s|x|z|ch|sh)$", word)) and not word.endswith("stomach")


def _with_s(word: str) -> str:
    if hisses(word) or re.search(r"(?:pot|tom)ato$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def _first(verb: str, change: Callable[[str], str]) -> str:
    head, _, tail = verb.partition(" ")
    return f"{change(head)} {tail}".strip()


def third(verb: str) -> str:
    """Third person singular: goes, plays, studies, has."""
    special = {"have": "has", "be": "is", "do": "does", "go": "goes"}
    return _first(verb, lambda v: special.get(v) or _with_s(v))


def _doubles(verb: str) -> bool:
    return bool(re.fullmatch(r"[^aeiou]*[aeiou][bdglmnprt]", verb)) or verb in {"forget", "prefer", "begin"}


def past(verb: str) -> str:
    """Simple past."""

    def change(v: str) -> str:
        if v in PASTS:
            return PASTS[v]
        if v.endswith("e"):
            return v + "d"
        if re.search(r"[^aeiou]y$", v):
            return v[:-1] + "ied"
        return v + v[-1] * _doubles(v) + "ed"

    return _first(verb, change)


def gerund(verb: str) -> str:
    """The -ing form."""

    def change(v: str) -> str:
        if v.endswith("ie"):
            return v[:-2] + "ying"
        if re.search(r"[^eo]e$", v) and v != "be":
            return v[:-1] + "ing"
        return v + v[-1] * _doubles(v) + "ing"

    return _first(verb, change)


def present(verb: str, subject: str, number: str) -> str:
    """Present tense of a verb agreeing with a subject ("I", "he", or any text with its number: sing | plur)."""
    if verb == "be":
        return BE_PRESENT.get(subject, "is" if number == "sing" and subject != "you" else "are")
    return third(verb) if number == "sing" and subject not in {"I", "you"} else verb


def contracted(text: str) -> str:
    """A fixed expression as it is spoken: I'm, it's, what's, don't, let's."""
    text = re.sub(r"\bI am\b", "I'm", text)
    text = re.sub(r"\b(it|that|what|where|who|how) is\b", r"\1's", text)
    text = re.sub(r"\b(do|does) not\b", r"\1n't", text)
    return re.sub(r"\blet us\b", "let's", text)


def literal(word: str, tense: str, subject: str, number: str) -> str:
    """A word written in a template by its base form, agreeing: {like s}, {don't s}, {be s past}, {this x}."""
    if word in {"this", "that"}:
        return word if number == "sing" else {"this": "these", "that": "those"}[word]
    if word == "don't":
        return "don't" if present("do", subject, number) == "do" else "doesn't"
    if tense == "past":
        return past(word) if word != "be" else "was" if number == "sing" and subject != "you" else "were"
    return present(word, subject, number)


def number(count: int) -> str:
    """A cardinal below 100 in words."""
    if count < 20:
        return UNITS[count]
    tens, unit = divmod(count, 10)
    return TENS[tens - 2] + (f"-{UNITS[unit]}" if unit else "")
