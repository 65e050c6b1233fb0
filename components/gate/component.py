"""Step 7: the measured variants are judged, and the one to publish is chosen."""

from kfp import dsl

from components.image import component


@component
def gate(
    fp32: dsl.Input[dsl.Artifact],
    fp16: dsl.Input[dsl.Artifact],
    int8: dsl.Input[dsl.Artifact],
    config: dict,
    machine: str,
    code_version: str,
    verdict: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Hold every variant against its gates and choose.

    Args:
        fp32: Evaluation of the fp32 bundle, which the others are compared with.
        fp16: Evaluation of the fp16 bundle.
        int8: Evaluation of the int8 bundle.
        config: The profile's gate section (model.config.GateConfig).
        machine: cpu or gpu: the machine that will serve, which decides what is best.
        code_version: Version of the code; part of the cache's key.

    Returns:
        verdict: verdict.json: every gate's threshold, value and verdict, and the variant chosen.
        report: The same for people, with plots.
        Output: The variant to publish, or "none".
    """
    from components.step import step

    with step("gate", verdict=verdict.path):
        from evaluation.gate import decide
        from model.config import GateConfig, from_dict

        evaluations = {"fp32": fp32.path, "fp16": fp16.path, "int8": int8.path}
        return decide(evaluations, from_dict(GateConfig, config), machine, verdict.path, report.path)
