"""Sentence pairs from what translators work with: gettext's catalogues, and XML of their tools. Files are streamed."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from model.corpus.files import CorpusError, SourceFile, read_blocks
from model.corpus.tally import Tally
from model.documents.catalogue import entries, header, mo_entries
from model.documents.interchange import Unit, pieces
from model.documents.parts import DocumentError, Source
from model.languages import primary


def catalogue_pairs(file: SourceFile, columns: object, tally: Tally) -> Iterator[tuple[str, str]]:
    """Text and translation of every message; one that is fuzzy or has none has an empty side.

    Raises:
        CorpusError: when the file cannot be read, or nothing tells what it is translated into.
    """
    into: int | None = None
    for text, translation in _messages(file, tally.languages):
        if into is None:
            language = header(translation).get("language", "") if not text else ""
            into = _side(file, language, tally.languages)
        if text:
            tally.count()
            yield (text, translation) if into else (translation, text)


def exchanged_pairs(file: SourceFile, columns: object, tally: Tally) -> Iterator[tuple[str, str]]:
    """Both sides of every unit of a .tmx or .xliff that has either.

    Raises:
        CorpusError: when the file cannot be read, or no unit is in both languages.
    """
    seen, both = set[str](), False
    with as_corpus():
        for piece in pieces(document(file, tally.languages)):
            if not isinstance(piece, Unit):
                continue
            first, second = (piece.side(code) for code in tally.languages)
            seen.update(side.language or "no language" for side in piece.sides)
            if first or second:
                tally.count()
                both = both or bool(first and second)
                yield first.text if first else "", second.text if second else ""
    if not both:
        wanted, found = " and ".join(tally.languages), ", ".join(sorted(seen)[:10]) or "no units"
        raise CorpusError(
            f"{file.name}: no unit is in both {wanted}; found: {found}; set corpus.languages to two of them"
        )


def document(file: SourceFile, languages: Sequence[str]) -> Source:
    """The decompressed file, as documents are read."""
    return Source(io.BufferedReader(_Blocks(read_blocks(file))), file.name, tuple(languages))


@contextlib.contextmanager
def as_corpus() -> Iterator[None]:
    """What is wrong with a document is wrong with the corpus."""
    try:
        yield
    except DocumentError as error:
        raise CorpusError(str(error)) from None


def _messages(file: SourceFile, languages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Text and translation of each message; the header has an empty text. Of a plural its two ends are messages."""
    source = document(file, languages)
    with as_corpus():
        if file.format == ".mo":
            yield from mo_entries(source)
            return
        for entry in entries(source):
            if entry.texts:
                forms = [text for name, text in entry.texts.items() if name.startswith("msgstr")]
                yield entry.source, "" if entry.fuzzy and entry.source else forms[0]
                if plural := entry.texts.get("msgid_plural"):
                    yield plural, "" if entry.fuzzy else forms[-1]


def _side(file: SourceFile, language: str, languages: Sequence[str]) -> int:
    """Which of the languages a catalogue's translations are in: by its header, or else by its name or its folder's."""
    codes = [primary(code) for code in languages]
    if language:
        if primary(language) in codes:
            return codes.index(primary(language))
        raise CorpusError(f"{file.name}: translated into {language}, corpus.languages is [{', '.join(languages)}]")
    for word in reversed(re.findall("[a-z]+", file.name.lower().removesuffix(file.format))):
        if word in codes:
            return codes.index(word)
    raise CorpusError(
        f"{file.name}: nothing says what it is translated into; name it as its language, such as {codes[-1]}.po, "
        f'or add the line "Language: {codes[-1]}\\n" to its header'
    )


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if (block := next(self._blocks, None)) is None:
                return 0
            self._rest = block
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
