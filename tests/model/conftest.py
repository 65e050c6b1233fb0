"""What tests of training share."""

from pathlib import Path

import pytest

from tests.helpers.training import corpus_and_tokenizer


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A miniature parallel corpus, and a tokenizer of its characters."""
    return corpus_and_tokenizer(tmp_path_factory.mktemp("parallel"))
