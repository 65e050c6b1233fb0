"""From text to a corpus: reading, cleaning, deduplicating, shuffling and splitting; shards on disk with a card."""

from model.corpus.files import CorpusError
from model.corpus.prepare import prepare_corpus
from model.corpus.storage import read_card, read_split, test_sets

__all__ = ["CorpusError", "prepare_corpus", "read_card", "read_split", "test_sets"]
