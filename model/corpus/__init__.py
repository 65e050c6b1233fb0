"""From text to a corpus: reading, cleaning, deduplicating, shuffling and splitting; shards on disk with a card.

python -m model.corpus --out corpus --test test.tsv train.tsv.zst
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import CorpusError
from .storage import read_card, read_split, test_sets

if TYPE_CHECKING:
    from model.config import CorpusConfig

__all__ = ["CorpusError", "prepare_corpus", "read_card", "read_split", "test_sets"]


def prepare_corpus(sources: list[str], tests: list[str], out: str | Path, config: CorpusConfig) -> dict[str, Any]:
    """See :func:`model.corpus.prepare.prepare_corpus`; imported on call because readers of a corpus do not need it."""
    from .prepare import prepare_corpus as prepare

    return prepare(sources, tests, out, config)
