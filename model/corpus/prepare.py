"""A whole corpus on one machine: its shards, one as a rule, one after another, and the merge of them.

Rows are read, cleaned and sorted by a seeded hash of their content (:mod:`model.corpus.shard`); what is held out, and
what is the same as another row or near to it, is decided over all of them (:mod:`model.corpus.merge`). The pipeline has
a step for each shard where there are several, and comes to the same corpus, byte for byte.
"""

import shutil
from pathlib import Path
from typing import Any

from model.config import CorpusConfig
from model.corpus.merge import check_places, merge_into
from model.corpus.shard import write_shard
from model.files import replace_directory


def prepare_corpus(
    sources: list[str], tests: list[str], out: str | Path, config: CorpusConfig, holdout: str | Path | None = None
) -> dict[str, Any]:
    """Prepare the corpus ``out`` (a directory, replaced if it is a corpus) and return its card.

    Args:
        sources: files, directories, addresses or ``hf://`` data sets; none means ``config.sources``. Of a directory or
            data set with splits, the test files become test sets, and those to validate on are left out.
        tests: test sets, each named by its file's stem; they are kept as they are, and kept out of the rest.
        holdout: a directory of its own for all splits but the train split, with the same card; None for ``out``.

    Raises:
        CorpusError: when a source cannot be used, or nothing is left of it; ``out`` is then as it was before.
    """
    check_places(out, holdout)

    def fill(partial: Path) -> dict[str, Any]:
        shards = [partial / "shards" / str(number) for number in range(config.shards)]
        for number, shard in enumerate(shards):
            write_shard(sources, tests, shard, config, number)
        card = merge_into(partial, shards, config, holdout)
        shutil.rmtree(partial / "shards")
        return card

    return replace_directory(Path(out), fill)
