"""Step 1: text, wherever it lies, becomes a clean and split corpus."""

from kfp import dsl

from components.image import component


@component
def prepare_data(sources: list, tests: list, config: dict, code_version: str, corpus: dsl.Output[dsl.Dataset]):
    """Read, clean, deduplicate and split text into shards.

    Args:
        sources: Files or addresses (.tsv, .txt, .jsonl, .parquet; s3://, https://, hf://); empty for config's own.
        tests: Test files, each of which becomes a test set named after its stem.
        config: The profile's corpus section (model.config.CorpusConfig).
        code_version: Version of the code; part of the cache's key.

    Returns:
        corpus: Shards, splits and corpus.json, the corpus card.
    """
    from components.step import step

    with step("prepare-data", corpus=corpus.path):
        from model.config import CorpusConfig, from_dict
        from model.corpus import prepare_corpus

        card = prepare_corpus(sources, tests, corpus.path, from_dict(CorpusConfig, config))
        corpus.metadata.update(kind=card["kind"], counts=card["counts"])
