"""Step 1b: the shards of a text become one clean and split corpus, the same as prepare-data makes by itself."""

from kfp import dsl

from components.image import component


@component
def merge_shards(
    shards: dsl.Input[list[dsl.Dataset]],
    config: dict,
    code: str,
    corpus: dsl.Output[dsl.Dataset],
    holdout: dsl.Output[dsl.Dataset],
):
    """Deduplicate, hold out and split the rows of all shards.

    Args:
        shards: All that prepare-shard has made.
        config: The profile's corpus section (model.config.CorpusConfig).
        code: Hash of the step's code; part of the cache's key.

    Returns:
        corpus: The train split, and corpus.json, the corpus card.
        holdout: The valid and held-out splits and the test sets, which are small, with the same card.
    """
    from components.step import step

    with step("prepare-data", code, corpus=corpus.path, holdout=holdout.path):
        from model.config import CorpusConfig, from_dict
        from model.corpus.merge import merge_shards

        places, settings = [shard.path for shard in shards], from_dict(CorpusConfig, config)
        card = merge_shards(places, corpus.path, settings, holdout.path)
        for part in (corpus, holdout):
            part.metadata.update(kind=card["kind"], counts=card["counts"])
