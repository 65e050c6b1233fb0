"""Russian inflection: one word form from a lemma and grammemes, always looked up in pymorphy3's dictionary.

No endings are written here. A lemma is bound to one dictionary lexeme by part of speech and normal form, the wanted
form is picked out of that lexeme by its grammemes, and marked variants (archaic, colloquial, "-ою") are passed over.

    .venv-phrasebook/bin/python -c "from tools.phrasebook.russian import noun; print(noun('ребёнок', 'gent', 'plur'))"
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

MARKED = frozenset(
    {
        "Infr",
        "Slng",
        "Arch",
        "Litr",
        "Erro",
        "Dist",
        "Abbr",
        "V-oy",
        "V-be",
        "V-ie",
        "V-sh",
        "V-ey",
        "V-en",
        "V-bi",
        "Fimp",
        "Supr",
    }
)
DEGREES = frozenset({"Supr"})
CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct")
PERSONS = ("я", "ты", "вы", "он", "она", "мы", "они")
VERB_ENDINGS = ("ть", "ться", "ти", "тись", "чь")

UNITS = {
    1: "один", 2: "два", 3: "три", 4: "четыре", 5: "пять", 6: "шесть", 7: "семь", 8: "восемь", 9: "девять",
    10: "десять", 11: "одиннадцать", 12: "двенадцать", 13: "тринадцать", 14: "четырнадцать", 15: "пятнадцать",
    16: "шестнадцать", 17: "семнадцать", 18: "восемнадцать", 19: "девятнадцать", 20: "двадцать", 30: "тридцать",
    40: "сорок", 50: "пятьдесят", 60: "шестьдесят", 70: "семьдесят", 80: "восемьдесят", 90: "девяносто",
}  # fmt: skip


class PhrasebookError(ValueError):
    """A lexicon entry or a template that cannot be rendered; the message names it."""


@dataclass(frozen=True)
class Agreement:
    """What a verb, an adjective or a numeral agrees with."""

    number: str  # sing | plur
    gender: str = "masc"  # masc | femn | neut; meaningless in the plural
    person: str = "3per"
    animacy: str = "inan"  # anim | inan


@cache
def analyzer() -> Any:
    """The one pymorphy3 analyser; imported here so that importing the phrasebook costs nothing."""
    import pymorphy3

    return pymorphy3.MorphAnalyzer()


@cache
def lexeme(lemma: str, pos: tuple[str, ...]) -> tuple[tuple[str, frozenset[str]], ...]:
    """All unmarked forms of a dictionary word as (form, grammemes), homonyms one after another, likeliest first.

    ``pos`` lists the parts of speech allowed, in pymorphy3's names.

    Raises:
        PhrasebookError: if the dictionary has no such word; forms are never guessed.
    """
    word, found = lemma.lower(), []
    for parse in analyzer().parse(word):
        if parse.word != word or parse.tag.POS not in pos or not analyzer().word_is_known(word):
            continue
        if "NOUN" not in pos or parse.normal_form == word:
            own = parse.tag.grammemes  # "ближайший" shares a lexeme with "близкий" and must keep its degree
            kept = (form for form in parse.lexeme if not (MARKED - own) & form.tag.grammemes)
            found += [
                (form.word, frozenset(form.tag.grammemes)) for form in kept if own & DEGREES <= form.tag.grammemes
            ]
    if found:
        return tuple(found)
    raise PhrasebookError(
        f"{lemma!r} is not in the dictionary as {'/'.join(pos)}: correct its spelling in lexicon.yaml"
    )


def form(lemma: str, pos: tuple[str, ...], *grammemes: str) -> str:
    """The form of ``lemma`` that has every grammeme; capitalised when the lemma is."""
    wanted = frozenset(grammemes)
    for word, found in lexeme(lemma, pos):
        if wanted <= found:
            return word[:1].upper() + word[1:] if lemma[:1].isupper() else word
    raise PhrasebookError(f"{lemma!r} has no form {' '.join(grammemes)}: choose another word or another template")


@cache
def noun_agreement(lemma: str, number: str = "sing") -> Agreement:
    """Gender and animacy of a noun, from the dictionary."""
    grammemes = next(tags for word, tags in lexeme(lemma, ("NOUN",)) if word == lemma.lower())
    gender = next((gender for gender in ("masc", "femn", "neut") if gender in grammemes), "masc")
    return Agreement(number, gender, "3per", "anim" if "anim" in grammemes else "inan")


@cache
def noun(lemma: str, case: str, number: str) -> str:
    """A noun in a case and number; ``loc2`` is the second locative ("в лесу")."""
    return form(lemma, ("NOUN",), case, number)


@cache
def adjective(lemma: str, case: str, to: Agreement, pos: tuple[str, ...] = ("ADJF", "PRTF")) -> str:
    """An adjective, determiner or ordinal agreeing with ``to``; of several words the last is inflected."""
    head, _, word = lemma.rpartition(" ")
    agreement = ["plur"] if to.number == "plur" else ["sing", to.gender]
    if case == "accs" and (to.number == "plur" or to.gender == "masc"):
        agreement.append(to.animacy)
    return f"{head} {form(word, pos, case, *agreement)}".strip()


@cache
def short_pos(lemma: str) -> str:
    """ADJS or PRTS if ``lemma`` is a short adjective or participle, otherwise nothing."""
    parts = [str(parse.tag.POS) for parse in analyzer().parse(lemma) if parse.word == lemma]
    return next((pos for pos in ("ADJS", "PRTS") if pos in parts), "")


@cache
def short(lemma: str, to: Agreement) -> str:
    """A short adjective or participle ("готов", "закрыт") agreeing with ``to``."""
    pos = short_pos(lemma)
    return form(lemma, (pos,), pos, *(["plur"] if to.number == "plur" else ["sing", to.gender]))


@cache
def pronoun(lemma: str, case: str, after_preposition: bool = False) -> str:
    """A personal pronoun; after a preposition "него", otherwise "его"."""
    found = [word for word, tags in lexeme(lemma, ("NPRO",)) if case in tags]
    found = [word for word in found if word.startswith("н") == after_preposition] or found
    return found[0]


@cache
def verb(infinitive: str, tense: str, to: Agreement | None = None) -> str:
    """A verb form: ``tense`` is inf, pres, past, futr or impr (``to.number`` then chooses ты or вы)."""
    pos = ("INFN",)
    if tense == "inf":
        return infinitive
    assert to is not None, f"{infinitive}: {tense} needs something to agree with"
    if tense == "past":
        return form(infinitive, pos, "VERB", "past", *(["plur"] if to.number == "plur" else ["sing", to.gender]))
    if tense == "impr":
        return form(infinitive, pos, "VERB", "impr", to.number, "excl")
    return form(infinitive, pos, "VERB", tense, to.number, to.person)


@cache
def literal(lemma: str, tense: str, case: str, to: Agreement) -> str:
    """A word written in a template by its lemma: a verb, a short form, "он" or an adjective."""
    if lemma == "он":
        return pronoun({"masc": "он", "femn": "она", "neut": "оно"}[to.gender] if to.number == "sing" else "они", case)
    if lemma.endswith(VERB_ENDINGS):
        return verb(lemma, tense, to)
    return short(lemma, to) if short_pos(lemma) else adjective(lemma, case, to)


@cache
def numeral(count: int, case: str, to: Agreement) -> str:
    """A cardinal below 1000 in words, nominative or accusative, its last word agreeing ("двадцать одну", "две")."""
    words = []
    if count >= 100:
        raise PhrasebookError(f"{count}: numbers from 100 up are written in digits")
    if count > 20 and count % 10:
        words.append(UNITS[count - count % 10])
        count %= 10
    if count == 1:
        words.append(adjective("один", case, to))
    elif count == 2:
        words.append(form("два", ("NUMR",), "nomn", to.gender))
    else:
        words.append(UNITS[count])
    return " ".join(words)


@cache
def count_grammemes(pos: str, lemma: str, count: int, case: str, gender: str = "") -> tuple[str, ...]:
    """Case and number (sorted) that a numeral in the nominative or accusative demands of a noun or adjective."""
    word = next(p for p in analyzer().parse(lemma) if str(p.tag.POS) == pos and p.normal_form == lemma)
    tag = word.inflect({"sing", case} | ({gender} if gender else set())).tag
    return tuple(sorted(tag.numeral_agreement_grammemes(count)))


VOWELS = "аеёиоуыэюя"
_PREPOSITIONS = re.compile(r"(?<![\w-])([ОоВвСсКк]) (?=([\w-]+))")
_WITH_O = re.compile(r"(?:мной|мне|льд\w+|всем\w*|всей|двор\w*)$")


def prepositions(text: str) -> str:
    """Give о, в, с, к the form that the next word demands: об Анне, во Франции, со студентом."""

    def choose(match: re.Match[str]) -> str:
        preposition, word = match[1], match[2].lower()
        kind = preposition.lower()
        cluster = len(word) > 1 and word[1] not in VOWELS
        if kind == "о":
            tail = "б" if word[0] in "аиоуэ" else ""
        elif kind == "в":
            tail = "о" if (word[0] in "вф" and cluster) or _WITH_O.match(word) else ""
        elif kind == "с":
            tail = (
                "о"
                if (word[0] in "сзшж" and cluster) or word.startswith(("щ", "вт", "вс")) or _WITH_O.match(word)
                else ""
            )
        else:
            tail = "о" if _WITH_O.match(word) else ""
        return f"{preposition}{tail} "

    return _PREPOSITIONS.sub(choose, text)
