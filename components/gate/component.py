"""Step 5: the measured variants are judged, and the one to publish is chosen."""

from kfp import dsl

from components.image import component


@component
def gate(
    fp32: dsl.Input[dsl.Artifact],
    fp16: dsl.Input[dsl.Artifact],
    int8: dsl.Input[dsl.Artifact],
    holdout: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Input[dsl.Model],
    config: dict,
    machine: str,
    code: str,
    verdict: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Hold every variant against its gates and choose.

    Args:
        fp32: Evaluation of the fp32 bundle, which the others are compared with.
        fp16: Evaluation of the fp16 bundle.
        int8: Evaluation of the int8 bundle.
        holdout: Its card tells of the corpus in the report.
        tokenizer: Its report.
        checkpoint: Its training.json and curves.jsonl.
        config: The profile's gate section (model.config.GateConfig).
        machine: cpu or gpu: the machine that will serve, which decides what is best.
        code: Hash of the step's code; part of the cache's key.

    Returns:
        verdict: verdict.json: every gate's threshold, value and verdict, the variant chosen; summary.json: all figures.
        report: The same for people, with plots.
        Output: The variant to publish, or "none".
    """
    from components.step import step

    with step("gate", code, verdict=verdict.path):
        from evaluation.gate import decide
        from model.config import GateConfig, from_dict

        evaluations = {"fp32": fp32.path, "fp16": fp16.path, "int8": int8.path}
        settings, told = from_dict(GateConfig, config), (holdout.path, tokenizer.path, checkpoint.path)
        return decide(evaluations, settings, machine, verdict.path, report.path, *told)
