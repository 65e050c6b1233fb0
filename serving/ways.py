"""How a text is to be translated: from which language into which, what of it, and with which terms.

A source that is "auto" is found out (model.text.detect), and told beside the text; one that is given is believed. Of
HTML what a reader sees is translated (model.text.markup). Terms are the server's and the request's.

    way = find_way("Привет!", Parameters(source="auto"), engine)  # Way("ru", "en", {"source": "ru", "confidence": 1.0})
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.config import ConfigError
from model.text.detect import CONFIDENT, detected
from model.text.glossary import Glossary, GlossaryError, check_pair
from model.text.markup import Markup, MarkupError
from model.text.spans import Attempt, attempts
from serving.engine import Engine
from serving.errors import InvalidRequest
from serving.parameters import AUTO, Parameters

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Way:
    """From a language into another; ``about`` is what the caller is told of how it was found."""

    source: str
    target: str
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def is_none(self) -> bool:
        """Whether the text is in its target's language already."""
        return self.source == self.target


def check_fields(parameters: Parameters, languages: Sequence[str], translates: bool, splits: bool) -> None:
    """Refuse a source that there is not, and what has no meaning for a model, or for a text that is not cut.

    Raises:
        InvalidRequest: naming the field.
    """
    if not translates:
        for name in ("source", "format", "glossary"):
            if getattr(parameters, name) != getattr(Parameters, name):
                raise InvalidRequest(name, "this model continues text and takes none; leave it out")
        return
    if parameters.source not in (None, AUTO, *languages):
        known = ", ".join((AUTO, *languages))
        raise InvalidRequest("source", f"unknown language {parameters.source!r}; known: {known}")
    needs = {
        "source": parameters.source == AUTO,
        "format": parameters.format != "text",
        "glossary": bool(parameters.glossary),
    }
    for name in (name for name, needed in needs.items() if needed and not splits):
        raise InvalidRequest(name, "is for texts that are cut into pieces; leave out split and ignore_eos")


def find_way(text: str, parameters: Parameters, engine: Engine) -> Way:
    """The languages of a text, whose words are ``text``.

    A text that is found to be in the target's language is not translated where that is sure; where it is not, it has
    names or quotations in it, or is of another language after all.

    Raises:
        InvalidRequest: where neither the caller nor the text tells them.
    """
    languages, source, target = engine.bundle.languages, parameters.source, parameters.target
    about: dict[str, Any] = {}
    if source == AUTO:
        found = detected(text, languages)
        source = found.language if found else None
        about = {"source": source, "confidence": round(found.confidence, 3) if found else 0.0}
        if found and source == target and found.confidence < CONFIDENT:
            source = None
    if target is None and source is not None and len(languages) == 2:
        target = languages[1 - languages.index(source)]
    into = target or engine.other_language(text)
    return Way(source or next((language for language in languages if language != into), into), into, about)


def read_page(text: str, parameters: Parameters) -> Markup | None:
    """A text as HTML, where it is that.

    Raises:
        InvalidRequest: for HTML that is not taken.
    """
    try:
        return Markup(text) if parameters.format == "html" else None
    except MarkupError as error:
        raise InvalidRequest("text", str(error)) from None


class Terms:
    """The server's glossary, in both directions between the two languages of its file.

    Args:
        path: a file of two columns with a tab between them: languages' codes, then in each line a term and its
            translation; lines that are empty or begin with # are left out.
        languages: those of the bundle.

    Raises:
        ConfigError: naming the line that cannot be used.
    """

    def __init__(self, path: str = "", languages: Sequence[str] = ()) -> None:
        self._pairs: dict[tuple[str, str], Pairs] = {}
        self._made: dict[tuple[str, str], Glossary] = {}
        if not path:
            return
        try:
            lines = Path(path).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"glossary {path} cannot be read ({why})") from None
        rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
        for number, row in rows:
            if len(row) != 2:
                raise ConfigError(f"{path}:{number}: must be two columns with a tab between them")
        first, second = rows[0][1] if rows else ("", "")
        if first not in languages or second not in languages or first == second:
            raise ConfigError(f"{path}: the first line must name two of the bundle's languages: {', '.join(languages)}")
        for number, row in rows[1:]:
            try:
                check_pair(*row)
            except GlossaryError as error:
                raise ConfigError(f"{path}:{number}: {error}") from None
        pairs = [(row[0], row[1]) for _, row in rows[1:]]
        self._pairs = {(first, second): pairs, (second, first): [(other, one) for one, other in pairs]}
        self._made = {way: Glossary(pairs, *way) for way, pairs in self._pairs.items()}

    def attempts(self, way: Way, own: Pairs) -> Callable[[str], list[Attempt]]:
        """The ways to translate a piece; ``own`` are the request's terms, which win."""
        key = (way.source, way.target)
        pairs = self._pairs.get(key, ())
        if not own:
            return self._made[key].attempts if pairs else attempts
        return Glossary([*pairs, *own], *key).attempts


NO_TERMS = Terms()
