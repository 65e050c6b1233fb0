"""Step 6, only when no variant passed its gates: the run fails, and says why."""

from kfp import dsl

from components.image import component


@component
def refuse(verdict: dsl.Input[dsl.Artifact], code: str):
    """Print the gates that failed, of every variant, and fail.

    Args:
        verdict: The gate's verdict.
        code: Hash of the step's code.
    """
    from components.step import step

    with step("refuse", code):
        from components.handover import hand_over
        from evaluation.gate import refuse

        hand_over(verdict.path, None)
        refuse(verdict.path)
