"""The one normal form of text: what made a row that a model was trained on makes a prompt of what it is asked.

The functions read a string as a whole, in C (``str.split``, ``isprintable``, compiled patterns), because a loop over
characters would make a million pairs take minutes; most of many lines need not even that (:func:`clean_lines`). All put
text into Unicode's NFC form and take control and invisible characters away. Of a sentence, white space becomes single
spaces; a Cyrillic vowel loses its stress mark, which is for dictionaries and foreign names; a letter of the wrong
alphabet, typed or scanned into a word, becomes the letter that it looks like; and a hyphen, and an apostrophe in a
word, has one form. Quotation marks, dashes, ``ё`` and emoji stay: they say something, or are how a language is written.

A sentence that is to be read, and not written, has fewer forms of its marks: which of them was typed is chance, and a
model sees some too seldom to know that they say the same.

    clean_line("Оле\\u0301г\\u00a0спи\\u00adт, don’t") == "Олег спит, don't"
    clean_source("“Yes”, ‘no’ – and „ja“") == '"Yes", \'no\' — and "ja"'
    as_typed("Ещё «ёлка»") == 'Еще "елка"'
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from model.text.tables import END, FEW, CharacterTable, codes_of
from model.unicode import nfc

# Controls that are not white space, and characters that cannot be seen: soft hyphen, zero-width space, directions,
# byte order mark, lone surrogates. The joiners U+200C and U+200D stay: spelling and emoji depend on them.
INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff"
)
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_INVISIBLE_OR_CONTROL = re.compile(f"[{INVISIBLE}\x0b\x0c\x1c-\x1f\x85]")
STRESS = "\u0301"
# The marks of a stressed vowel; among them may be those of its letter, as in an е that is to become ё.
_STRESSED = re.compile("(?<=[АЕЁИОУЫЭЮЯІЇЄаеёиоуыэюяіїє])[\u0300-\u036f]+")

_HYPHENS = str.maketrans("\u2010\u2011", "--")
_APOSTROPHE = re.compile(r"(?<=\w)[’ʼ](?=\w)")

# The marks of a source, each to the one that says the same, and what most keyboards have instead of letters and marks.
_MARKED, _MARKS = re.compile("[“”„‟‘’‚‛–]"), str.maketrans("“”„‟‘’‚‛–", '"' * 4 + "'" * 4 + "—")
_AS_TYPED = str.maketrans("ёЁ«»", 'еЕ""')

# Letters that look alike. The Latin c and the Cyrillic с are one key, and text recognition mistakes all of them.
LATIN, CYRILLIC = "ABCEHIJKMOPSTXYaceijopsxy", "АВСЕНІЈКМОРЅТХУасеіјорѕху"
_TO_CYRILLIC, _TO_LATIN = str.maketrans(LATIN, CYRILLIC), str.maketrans(CYRILLIC, LATIN)
_MIXED = re.compile("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
_WORD = re.compile("[A-Za-z\u0400-\u04ff]+")
_LATIN_LETTER, _CYRILLIC_LETTER = re.compile("[A-Za-z]"), re.compile("[\u0400-\u04ff]")


def clean_line(text: str) -> str:
    """One line in NFC, every run of white space a single space; see the module for what else it loses."""
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    text = nfc(" ".join(text.split()))
    if text.isascii():
        return text
    if "\u2010" in text or "\u2011" in text:
        text = text.translate(_HYPHENS)
    if "’" in text or "ʼ" in text:
        text = _APOSTROPHE.sub("'", text)
    # Words grow together where a stress mark goes, and a mark and a letter of the other alphabet become one.
    while (changed := _respelt(text)) != text:
        text = changed
    return text


def clean_lines(texts: Sequence[str]) -> list[str]:
    """:func:`clean_line` of each: those that are clean, which are most, are told from the others all at once."""
    if len(texts) < FEW:
        return list(map(clean_line, texts))
    codes, ends = codes_of(texts)
    if np.count_nonzero(codes == ord(END)) != len(texts):
        return list(map(clean_line, texts))  # a line break within one
    kinds = np.concatenate([[np.uint8(_BLANK)], _KINDS[codes]])
    one, other = kinds[:-1], kinds[1:]
    mixed = ((one << 1) & other & _CYRILLIC) | (one & (other << 1) & _CYRILLIC)
    soiled = (other & _UNSURE) | (one & other & _BLANK) | mixed
    cleaned = list(texts)
    for row in np.unique(np.searchsorted(ends, np.flatnonzero(soiled))).tolist():
        cleaned[row] = clean_line(texts[row])
    return cleaned


def _kind(character: str) -> int:
    """What two characters side by side must be known of to tell that nothing about them is to be cleaned."""
    if character in (" ", END):
        return _BLANK
    if not _FAMILIAR.match(character) or not character.isprintable() or unicodedata.combining(character):
        return _UNSURE
    if nfc(character) != character:
        return _UNSURE
    return _LATIN if _LATIN_LETTER.match(character) else _CYRILLIC if _CYRILLIC_LETTER.match(character) else 0


# Blocks of letters and signs that stay what they are beside any other of them (none is the second part of a letter in
# NFC); what is not in them is looked at more closely.
_FAMILIAR = re.compile(
    "[ -\u02af\u0370-\u03ff\u0400-\u052f\u2012-\u2018\u201a-\u2027\u2030-\u205e\u20a0-\u20bf\u3041-\u3096\u4e00-\u9fff]"
)
_BLANK, _UNSURE, _LATIN, _CYRILLIC = 1, 2, 4, 8
_KINDS = CharacterTable(_kind)


def clean_source(text: str) -> str:
    """A clean line as a model reads it, in training and when it is asked: one form of each quotation mark and dash."""
    text = clean_line(text)
    return text.translate(_MARKS) if _MARKED.search(text) else text


def as_typed(source: str) -> str:
    """A clean source with the letters and marks that most people type for those that are not on their keyboard."""
    while (typed := source.translate(_AS_TYPED)) != source:
        source = clean_source(typed)  # where marks make a ё of the е once more
    return source


def clean_text(text: str) -> str:
    """Running text in NFC, without control and invisible characters; its lines, tabs and spaces stay as they are."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return nfc(_INVISIBLE_OR_CONTROL.sub("", text))


def _respelt(text: str) -> str:
    """Without stress marks, and words in one alphabet; in NFC as the text is."""
    if STRESS in text:
        text = nfc(_STRESSED.sub(lambda marks: marks[0].replace(STRESS, ""), text))
    return nfc(_WORD.sub(_in_one_alphabet, text)) if _MIXED.search(text) else text


def _in_one_alphabet(word: re.Match[str]) -> str:
    """The word in the alphabet of most of its letters, where the others all look like a letter of it."""
    latin = len(_LATIN_LETTER.findall(word[0]))
    table, foreign = (_TO_CYRILLIC, _LATIN_LETTER) if 2 * latin < len(word[0]) else (_TO_LATIN, _CYRILLIC_LETTER)
    turned = word[0].translate(table)
    return word[0] if foreign.search(turned) else turned
