"""Step 1a, where text is more than one machine prepares in time: a shard of it, read and cleaned row by row."""

from kfp import dsl

from components.image import component


@component
def prepare_shard(
    sources: list,
    tests: list,
    config: dict,
    stamp: str,
    number: int,
    of: int,
    code: str,
    shard: dsl.Output[dsl.Dataset],
):
    """Read and clean a stretch of the text, beside the steps that do so with the others.

    Args:
        sources: Files or addresses, as for prepare-data; the same for all shards.
        tests: Test files.
        config: The profile's corpus section (model.config.CorpusConfig).
        stamp: What preflight found of the sources; part of the cache's key.
        number: Which shard, from 0 on.
        of: How many the pipeline was compiled for.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        shard: The rows that are fit, sorted by a hash, the test sets, and what became of the others.
    """
    from components.step import step

    with step(f"prepare-shard-{number + 1}", code, shard=shard.path):
        from model.config import CorpusConfig, from_dict
        from model.corpus.shard import write_shard

        card = write_shard(sources, tests, shard.path, from_dict(CorpusConfig, config), number, of)
        shard.metadata.update(number=number, read=card["counts"]["read"])
