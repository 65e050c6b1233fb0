"""Step 3: a corpus and a tokenizer become a trained network."""

from kfp import dsl

from components.image import component


@component
def train_model(
    corpus: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    network: dict,
    config: dict,
    code_version: str,
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the transformer and keep its best weights.

    Args:
        corpus: The prepared corpus.
        tokenizer: The tokenizer trained on it.
        network: The profile's network section (model.config.NetworkConfig).
        config: The profile's training section (model.config.TrainingConfig).
        code_version: Version of the code; part of the cache's key.

    Returns:
        checkpoint: model.safetensors (fp32), training.json and curves.jsonl.
        metrics: Final losses, parameters, tokens per second, seconds.
    """
    from components.step import scalars, step

    with step("train-model", checkpoint=checkpoint.path):
        from model.config import NetworkConfig, TrainingConfig, from_dict
        from model.training.loop import train

        shape, settings = from_dict(NetworkConfig, network), from_dict(TrainingConfig, config)
        report = train(corpus.path, tokenizer.path, checkpoint.path, shape, settings)
        metrics.metadata.update(scalars(report))
