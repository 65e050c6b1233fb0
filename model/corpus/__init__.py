"""From text to a corpus: reading, cleaning, deduplicating, shuffling and splitting; shards on disk with a card."""

from typing import TYPE_CHECKING, Any

from model.corpus.files import CorpusError
from model.corpus.storage import read_card, read_split, test_sets

if TYPE_CHECKING:
    from model.corpus.prepare import prepare_corpus

__all__ = ["CorpusError", "prepare_corpus", "read_card", "read_split", "test_sets"]


def __getattr__(name: str) -> Any:
    """``prepare_corpus`` when it is asked for: a machine that trains needs none of the libraries that it reads with."""
    if name != "prepare_corpus":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model.corpus.prepare import prepare_corpus

    return prepare_corpus
