"""Step 4, once per variant, side by side: the checkpoint becomes a servable bundle, which is measured."""

from kfp import dsl

from components.image import component


@component
def variant(
    checkpoint: dsl.Input[dsl.Model],
    tokenizer: dsl.Input[dsl.Artifact],
    holdout: dsl.Input[dsl.Dataset],
    precision: str,
    quantization: dict,
    config: dict,
    code: str,
    bundle: dsl.Output[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Build the serving graphs, in fp16 or int8 where asked, and score them through the serving engine.

    Args:
        checkpoint: The trained network.
        tokenizer: Its tokenizer, copied into the bundle.
        holdout: The valid split calibrates int8; the held-out split and the test sets are translated; a few of its
            texts go with the bundle.
        precision: fp32, fp16 or int8.
        quantization: The profile's quantization section (model.config.QuantizationConfig).
        config: The profile's evaluation section (model.config.EvaluationConfig).
        code: Hash of the step's code; part of the cache's key.

    Returns:
        bundle: bundle.json, the tokenizer's files and the ONNX graphs, every file with its hash.
        evaluation: evaluation.json, with samples for people to read.
        metrics: BLEU and chrF by test set and direction, loss, tokens per second, bytes.
    """
    from components.step import scalars, step

    with step(f"variant-{precision}", code, bundle=bundle.path, evaluation=evaluation.path):
        from evaluation.making import make_bundle
        from evaluation.variant import measure_bundle
        from model.config import EvaluationConfig, QuantizationConfig, from_dict

        settings, measured = from_dict(QuantizationConfig, quantization), from_dict(EvaluationConfig, config)
        made = (checkpoint.path, tokenizer.path, holdout.path, bundle.path)
        manifest = make_bundle(*made, precision, settings, measured)
        bundle.metadata.update(family=manifest["family"], precision=precision)
        metrics.metadata.update(scalars(measure_bundle(bundle.path, holdout.path, evaluation.path, measured)))
