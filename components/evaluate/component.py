"""Step 6, once per variant: a bundle is measured as it will be served."""

from kfp import dsl

from components.image import component


@component
def evaluate(
    bundle: dsl.Input[dsl.Model],
    corpus: dsl.Input[dsl.Dataset],
    variant: str,
    config: dict,
    code_version: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Score quality, loss, speed, size and memory through the serving engine.

    Args:
        bundle: The bundle to measure.
        corpus: The corpus whose held-out and test splits are translated.
        variant: fp32, fp16 or int8: how reports name the bundle.
        config: The profile's evaluation section (model.config.EvaluationConfig).
        code_version: Version of the code; part of the cache's key.

    Returns:
        evaluation: evaluation.json, with samples for people to read.
        metrics: BLEU and chrF by test set and direction, loss, tokens per second, bytes.
    """
    from components.step import scalars, step

    with step(f"evaluate-{variant}", evaluation=evaluation.path):
        from evaluation.evaluate import evaluate_bundle
        from model.config import EvaluationConfig, from_dict

        measured = evaluate_bundle(bundle.path, corpus.path, evaluation.path, from_dict(EvaluationConfig, config))
        scores = {f"{score.test_set}.{score.direction}": score.model_dump() for score in measured.scores}
        metrics.metadata.update(scalars({**measured.figures(), **scores}))
