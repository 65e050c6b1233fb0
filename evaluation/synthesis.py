"""Text made by a bundle: translations of as many texts as there are, through the serving engine in large batches.

The engine decodes on one thread, so as many processes translate as there are processors, or as there is memory for.
Memory holds a few blocks of texts for each of them, whatever their number.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from evaluation.prompts import Translation, known_author, translated
from model.bundle import Bundle
from model.corpus.workers import pooled
from model.errors import ProjectError
from model.memory import free_memory
from model.processors import available_cpus
from serving.engine import Engine, EngineConfig
from serving.engine.providers import CPU, wanted_providers

PROCESS_BYTES = 1 << 29  # that a process needs beside a few copies of the bundle
Label = TypeVar("Label")


class SynthesisError(ProjectError, RuntimeError):
    """Processes that could not translate to the end."""


class Asked(NamedTuple):
    """A text, the language to translate it into, and who wrote it."""

    text: str
    target: str
    author: str | None = None


class Translator:
    """Translates blocks of texts in one process, with an engine of its own."""

    def __init__(self, bundle: Path, beams: int) -> None:
        self._bundle, self._beams = bundle, beams

    @cached_property
    def _engine(self) -> Engine:
        # Its hashes were held against its files where the bundle that synthesise is given was loaded: once is enough.
        return Engine(Bundle.load(self._bundle, verify=False), EngineConfig(threads=1))

    def __call__(self, block: Sequence[Asked]) -> list[Translation]:
        """The texts' translations, in their order; an author whom the bundle does not know has no say."""
        engine, texts = self._engine, [asked.text for asked in block]
        authors = [known_author(engine, {"author": asked.author or ""}) for asked in block]
        return translated(engine, texts, [asked.target for asked in block], authors, self._beams)


def synthesise(
    bundle: Bundle, blocks: Iterable[tuple[Label, Sequence[Asked]]], beams: int
) -> Iterator[tuple[Label, list[Translation]]]:
    """The translations of every block of texts, in the order of the blocks, each with its label.

    Raises:
        SynthesisError: when a process was killed.
        ServingError: when an engine fails.
    """
    processes = 1
    if wanted_providers("auto", bundle.precision)[0] == CPU:
        room = free_memory()
        most = available_cpus() if room is None else room // (PROCESS_BYTES + 4 * bundle.bytes)
        processes = max(1, min(available_cpus(), most))
    try:
        yield from pooled(Translator, (bundle.path, beams), blocks, processes)
    except BrokenProcessPool:
        raise SynthesisError(
            f"{bundle.path}: one of {processes} processes that translate was killed, as a system does that runs out of "
            "memory: give it more, or fewer processors"
        ) from None
