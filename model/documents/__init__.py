"""Documents to be translated: the texts of a file in order, and the same file with only its texts changed.

parts = list(read(stream, "guide.md", target="en"))
texts = [part.text for part in parts if isinstance(part, Segment)]
document = b"".join(write(parts, translations))

A text may have marks ``<g1>``, ``<g2>`` where a tag, a link's target or code stands in the document. A translation has
to keep them, in their order, as ``model.text.spans`` sees to.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath
from typing import IO

from model.documents.catalogue import po_parts
from model.documents.html import html_parts
from model.documents.interchange import tmx_parts, xliff_parts
from model.documents.markdown import markdown_parts
from model.documents.parts import DocumentError, Part, Segment, Source
from model.documents.plain import jsonl_parts, text_parts, tsv_parts
from model.documents.properties import properties_parts
from model.documents.subtitles import srt_parts

__all__ = ["FORMATS", "DocumentError", "Part", "Segment", "format_of", "read", "write"]

_ALIKE = {".text": ".txt", ".markdown": ".md", ".htm": ".html", ".xhtml": ".html", ".xlf": ".xliff", ".pot": ".po"}
_PLAIN = {
    ".txt": text_parts,
    ".md": markdown_parts,
    ".html": html_parts,
    ".srt": srt_parts,
    ".po": po_parts,
    ".properties": properties_parts,
}
FORMATS = (".txt", ".md", ".html", ".srt", ".tsv", ".jsonl", ".po", ".xliff", ".tmx", ".properties")


def format_of(name: str) -> str:
    """The format of a file, by its name.

    Raises:
        DocumentError: when it is none that is translated.
    """
    suffix = PurePosixPath(name.lower()).suffix
    found = _ALIKE.get(suffix, suffix)
    if found not in FORMATS:
        raise DocumentError(f"{name}: not a type that is translated; those are {', '.join(FORMATS)}")
    return found


def read(
    stream: IO[bytes],
    name: str,
    *,
    target: str,
    source: str = "",
    languages: Collection[str] = (),
    fields: Collection[str] = (),
) -> Iterator[Part]:
    """The parts of a document, as they are read; memory does not depend on its size.

    Args:
        name: of the file; its ending says what it is, and errors call it by it.
        target: the language to translate into, as bilingual formats (.xliff, .tmx) have to know.
        source: the language to translate from; "" takes what the file says.
        languages: all that the text may be in, by which a file that is not UTF-8 is told its encoding.
        fields: of a .tsv the numbers of the columns, of a .jsonl the names of the fields that are texts.

    Raises:
        DocumentError: when the file cannot be read; parts that came before are right.
    """
    kind, opened = format_of(name), Source(stream, name, (*languages, target, *filter(None, [source])))
    if fields and kind not in (".tsv", ".jsonl"):
        raise DocumentError(f"{name}: has no fields to choose from; only a .tsv or .jsonl has")
    if kind == ".tsv":
        return tsv_parts(opened, fields)
    if kind == ".jsonl":
        return jsonl_parts(opened, fields)
    if kind == ".xliff":
        return xliff_parts(opened, target)
    if kind == ".tmx":
        return tmx_parts(opened, target, source)
    return _PLAIN[kind](opened)


def write(parts: Iterable[Part], translations: Iterable[str]) -> Iterator[bytes]:
    """The document with a translation in place of each text, in blocks of any size."""
    given = iter(translations)
    for part in parts:
        yield part.encode(next(given)) if isinstance(part, Segment) else part
