"""Texts through the engine, in batches: what a document's parts say, in another language."""

from collections.abc import Sequence
from functools import partial

from model.documents import Part, Segment, write
from model.text.pieces import Piece, join
from model.text.spans import translated, words_of
from serving.engine import Engine, GenerationRequest
from serving.errors import InvalidRequest
from serving.parameters import AUTO, Parameters
from serving.ways import NO_TERMS, Terms, Way, check_fields, find_way


class Translator:
    """What turns texts of any length into another language; what is no language in them stays.

    Args:
        engine: of a bundle that translates.
        target: the language to translate into.
        source: the language of the texts; "auto" leaves a text as it is that is in ``target`` already.
        terms: with their translations.

    Raises:
        InvalidRequest: for a bundle that does not translate, and a language that it does not know.
    """

    def __init__(self, engine: Engine, target: str, source: str = AUTO, terms: Terms = NO_TERMS) -> None:
        bundle = engine.bundle
        if bundle.task != "translation":
            raise InvalidRequest("bundle", f"{bundle.path} goes on with a text, and does not translate")
        self.engine, self.target, self.languages, self._terms = engine, target, tuple(bundle.languages), terms
        self._parameters = Parameters(source=source, target=target)
        check_fields(self._parameters, self.languages, translates=True, splits=True)
        engine.prompt("", target)  # refuses a language that it does not know

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The texts' translations, in their order.

        Raises:
            ServingError: when the engine fails.
        """
        ways = [find_way(words_of(text), self._parameters, self.engine) for text in texts]
        cut = [self._pieces(text, way) for text, way in zip(texts, ways, strict=True)]
        attempts = [
            self._terms.attempts(way, ())(piece.text)
            for way, pieces in zip(ways, cut, strict=True)
            for piece in pieces
            if piece.prompt
        ]
        prompts = {piece.text: piece.prompt for pieces in cut for piece in pieces}
        results = iter(translated(attempts, partial(self._generated, prompts)))
        return [join(pieces, results) for pieces in cut]

    def document(self, parts: Sequence[Part]) -> bytes:
        """Parts of a document with their texts translated."""
        return b"".join(write(parts, self([part.text for part in parts if isinstance(part, Segment)])))

    def _pieces(self, text: str, way: Way) -> list[Piece]:
        if way.is_none:  # it is in the target's language
            return [Piece(text, [])]
        return list(self.engine.pieces(text, way.target, source=way.source))

    def _generated(self, known: dict[str, list[int]], sources: list[str]) -> list[str]:
        """Translations of pieces, and of what attempts make of them; ``known`` are prompts that are made already."""
        prompts = [known.get(source) or self.engine.prompt(source, self.target) for source in sources]
        tokens = self.engine.limits.translation_tokens
        beams = self.engine.default_beams
        requests = [GenerationRequest(prompt, max_tokens=tokens(len(prompt)), beams=beams) for prompt in prompts]
        return [result.text for result in self.engine.generate(requests)]
