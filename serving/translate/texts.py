"""Texts through the engine, in batches: what a document's parts say, in another language.

A batch is cut into pieces while the engine works on the first of them, and a piece whose attempt has failed goes on
with the next one at once: the engine's slots are in use from the first text on.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from queue import SimpleQueue

from model.documents import Part, Segment, write
from model.text.pieces import Piece, join
from model.text.spans import trying, words_of
from serving.engine import Engine, GenerationRequest, GenerationResult, TokenEvent
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
        cut: list[list[Piece]] = [[] for _ in texts]
        told: list[list[str]] = [[] for _ in texts]

        def trials() -> Iterator[_Trial]:
            """Longest first, as Engine.generate does; each text is cut when the engine has room for it."""
            for index in sorted(range(len(texts)), key=lambda index: -len(texts[index])):
                way = find_way(words_of(texts[index]), self._parameters, self.engine)
                attempts = self._terms.attempts(way, ())
                cut[index] = self._pieces(texts[index], way)
                for piece in cut[index]:
                    if piece.prompt:
                        yield _Trial(piece, trying(attempts(piece.text)), told[index])

        with closing(_Running(self.engine, self.target)) as running:
            for trial in trials():
                running.begin(trial)
            running.finish()
        return [join(*each) for each in zip(cut, told, strict=True)]

    def document(self, parts: Sequence[Part]) -> bytes:
        """Parts of a document with their texts translated."""
        return b"".join(write(parts, self([part.text for part in parts if isinstance(part, Segment)])))

    def _pieces(self, text: str, way: Way) -> list[Piece]:
        if way.is_none:  # it is in the target's language
            return [Piece(text, [])]
        return list(self.engine.pieces(text, way.target, source=way.source))


class _Trial:
    """A piece on its way through its attempts, and its place among the translations of its text."""

    def __init__(self, piece: Piece, attempts: Generator[tuple[str, ...], Sequence[str], str], told: list[str]) -> None:
        self.piece, self._attempts, self._told, self._at = piece, attempts, told, len(told)
        told.append("")
        self.translations: list[str] | None = None  # of the sources of one attempt, once there is one
        self.left = 0  # of them to come

    def next(self) -> Sequence[str]:
        """What is to be translated next; nothing once the piece is."""
        try:
            while not (sources := self._attempts.send(self.translations)):  # type: ignore[arg-type]  # None begins it
                self.translations = []  # of an attempt that needs none
        except StopIteration as end:
            self._told[self._at], sources = end.value, ()
        self.left, self.translations = len(sources), [""] * len(sources)
        return sources


class _Running:
    """What is with the engine: as many requests as fill its slots twice, so that one that ends is followed at once."""

    def __init__(self, engine: Engine, target: str) -> None:
        self._engine, self._target = engine, target
        self._ended: SimpleQueue[tuple[int, GenerationResult | None]] = SimpleQueue()
        self._open: dict[int, tuple[_Trial, int, Callable[[], None]]] = {}
        self._count = 0

    def begin(self, trial: _Trial) -> None:
        """Submit a piece as soon as there is room for it; those that have ended before go on with their next attempts.

        Raises:
            ServingError: of any piece.
        """
        while len(self._open) >= 2 * self._engine.config.slots:
            self._take()
        self._submit(trial)

    def finish(self) -> None:
        """Wait for all of them; raises as :meth:`begin`."""
        while self._open:
            self._take()

    def close(self) -> None:
        """Cancel what has not ended."""
        for _, _, cancel in self._open.values():
            cancel()

    def _submit(self, trial: _Trial) -> None:
        for at, source in enumerate(trial.next()):
            piece, number = trial.piece, self._count
            prompt = piece.prompt if source == piece.text else self._engine.prompt(source, self._target)
            tokens, beams = self._engine.limits.translation_tokens(len(prompt)), self._engine.default_beams
            request = GenerationRequest(prompt, max_tokens=tokens, beams=beams)
            cancel = self._engine.submit(request, partial(self._hear, number), stream=False, bounded=False)
            self._open[number] = trial, at, cancel
            self._count += 1

    def _hear(self, number: int, last: TokenEvent) -> None:  # in the engine's thread
        self._ended.put((number, last.result))

    def _take(self) -> None:
        """Wait for a result, with which an attempt may be complete."""
        number, result = self._ended.get()
        trial, at, _ = self._open.pop(number)
        assert result is not None and trial.translations is not None  # without a stream there is but a last event
        if result.error is not None:
            raise result.error
        trial.translations[at] = result.text
        trial.left -= 1
        if not trial.left:
            self._submit(trial)
