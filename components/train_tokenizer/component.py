"""Step 2: a corpus becomes a tokenizer, the one that training, evaluation and serving share."""

from kfp import dsl

from components.image import component


@component
def train_tokenizer(
    corpus: dsl.Input[dsl.Dataset],
    config: dict,
    code_version: str,
    tokenizer: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train a tokenizer on the corpus's training split and report how it cuts each language.

    Args:
        corpus: The prepared corpus.
        config: The profile's tokenizer section (model.config.TokenizerConfig).
        code_version: Version of the code; part of the cache's key.

    Returns:
        tokenizer: tokenizer.json, the SentencePiece model where there is one, and tokenizer_report.json.
        metrics: Tokens per word and per character by language, unknown rate, seconds.
    """
    from components.step import scalars, step

    with step("train-tokenizer", tokenizer=tokenizer.path):
        from model.config import TokenizerConfig, from_dict
        from model.tokenizer.train import train_tokenizer

        report = train_tokenizer(corpus.path, tokenizer.path, from_dict(TokenizerConfig, config))
        metrics.metadata.update(scalars(report))
