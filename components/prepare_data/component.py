"""Step 1: text, wherever it lies, becomes a clean and split corpus."""

from kfp import dsl

from components.image import component


@component
def prepare_data(
    sources: list,
    tests: list,
    config: dict,
    stamp: str,
    code: str,
    corpus: dsl.Output[dsl.Dataset],
    holdout: dsl.Output[dsl.Dataset],
):
    """Read, clean, deduplicate and split text into shards.

    Args:
        sources: Files or addresses (.tsv, .txt, .jsonl, .parquet; s3://, https://, hf://); empty for config's own.
        tests: Test files, each of which becomes a test set named after its stem.
        config: The profile's corpus section (model.config.CorpusConfig).
        stamp: What preflight found of the sources; part of the cache's key.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        corpus: The train split in shards, and corpus.json, the corpus card.
        holdout: The valid and held-out splits and the test sets, which are small, with the same card.
    """
    from components.step import step

    with step("prepare-data", code, corpus=corpus.path, holdout=holdout.path):
        from model.config import CorpusConfig, from_dict
        from model.corpus import prepare_corpus

        card = prepare_corpus(sources, tests, corpus.path, from_dict(CorpusConfig, config), holdout.path)
        for part in (corpus, holdout):
            part.metadata.update(kind=card["kind"], counts=card["counts"])
