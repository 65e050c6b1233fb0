"""Step 3a, only where a run trains a teacher of its own: a larger network learns the text, and will teach the other."""

from kfp import dsl

from components.image import component


@component
def train_teacher(
    corpus: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    config: dict,
    checkpoint_uri: str,
    machine: str,
    gpus: str,
    code: str,
    checkpoint: dsl.Output[dsl.Model],
    bundle: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the teacher and make its bundle, in the precision that translates fastest.

    Args:
        corpus: The train split.
        holdout: The valid split, by which the best weights are chosen and int8 is calibrated.
        tokenizer: The tokenizer trained on it.
        config: The teacher's network (model.config.NetworkConfig) and training (model.config.TrainingConfig).
        checkpoint_uri: Folder, address or pvc://claim/prefix that keeps the state of an unfinished run; empty: none.
        machine: cpu or gpu: what it will translate on.
        gpus: How many are asked for: each that is there trains in a process of its own.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        checkpoint: As of train-model.
        bundle: What translates.
        metrics: Final losses, parameters, tokens per second, seconds.
    """
    from components.step import scalars, step

    with step("train-teacher", code, checkpoint=checkpoint.path, bundle=bundle.path):
        from evaluation.making import make_bundle
        from evaluation.teacher import PRECISION
        from model.config import EvaluationConfig, NetworkConfig, QuantizationConfig, TrainingConfig, from_dict
        from model.training.launch import processes, train_together

        shape, settings = from_dict(NetworkConfig, config["network"]), from_dict(TrainingConfig, config["training"])
        made = (corpus.path, holdout.path, tokenizer.path)
        report = train_together(processes(int(gpus), settings), *made, checkpoint.path, shape, settings, checkpoint_uri)
        metrics.metadata.update(scalars(report))
        how = PRECISION[machine], QuantizationConfig(), EvaluationConfig(examples=0)
        make_bundle(checkpoint.path, tokenizer.path, holdout.path, bundle.path, *how)
