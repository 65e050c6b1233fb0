"""Step 2: a corpus becomes a tokenizer, the one that training, evaluation and serving share."""

from kfp import dsl

from components.image import component


@component
def train_tokenizer(
    corpus: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    config: dict,
    origin: str,
    code: str,
    tokenizer: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train a tokenizer on the corpus's training split, or take an origin's, and report how it cuts each language.

    Args:
        corpus: The train split.
        holdout: The valid split, on which the tokenizer is reported.
        config: The profile's tokenizer section (model.config.TokenizerConfig).
        origin: What preflight found of the weights to begin with, whose tokenizer is taken; empty: none.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        tokenizer: tokenizer.json, the SentencePiece model where there is one, and tokenizer_report.json.
        metrics: Tokens per word and per character by language, unknown rate, seconds.
    """
    from components.step import scalars, step

    with step("train-tokenizer", code, tokenizer=tokenizer.path):
        from model.config import TokenizerConfig, from_dict
        from model.tokenizer.train import train_tokenizer
        from model.training.origin import tokenizer_of

        settings = from_dict(TokenizerConfig, config)
        with tokenizer_of(origin) as taken:
            report = train_tokenizer(corpus.path, tokenizer.path, settings, holdout.path, taken)
        metrics.metadata.update(scalars(report))
