"""Step 3: a corpus and a tokenizer become a trained network."""

from kfp import dsl

from components.image import component


@component
def train_model(
    corpus: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    network: dict,
    config: dict,
    checkpoint_uri: str,
    origin: str,
    gpus: str,
    code: str,
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the transformer and keep its best weights.

    Args:
        corpus: The train split.
        holdout: The valid split, by which the best weights are chosen.
        tokenizer: The tokenizer trained on it.
        network: The profile's network section (model.config.NetworkConfig).
        config: The profile's training section (model.config.TrainingConfig).
        checkpoint_uri: Folder, address or pvc://claim/prefix that keeps the state of an unfinished run; empty: none.
        origin: What preflight found of the weights to begin with; empty: random ones.
        gpus: How many are asked for: each that is there trains in a process of its own.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        checkpoint: model.safetensors (fp32), training.json, curves.jsonl and the tokenizer.
        metrics: Final losses, parameters, tokens per second, seconds.
    """
    from components.step import scalars, step

    with step("train-model", code, checkpoint=checkpoint.path):
        from model.config import NetworkConfig, TrainingConfig, from_dict
        from model.training.launch import processes, train_together

        shape, settings = from_dict(NetworkConfig, network), from_dict(TrainingConfig, config)
        made = (corpus.path, holdout.path, tokenizer.path)
        count = processes(int(gpus), settings)
        report = train_together(count, *made, checkpoint.path, shape, settings, checkpoint_uri, origin)
        metrics.metadata.update(scalars(report))
