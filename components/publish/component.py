"""Step 8, only when the gate lets it: the chosen bundle goes where servers find it."""

from kfp import dsl

from components.image import component


@component
def publish(
    fp32: dsl.Input[dsl.Model],
    fp16: dsl.Input[dsl.Model],
    int8: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    variant: str,
    target: str,
    run_id: str,
    code_version: str,
) -> str:
    """Copy the chosen bundle with its metrics and its provenance to the target.

    Args:
        fp32: The fp32 bundle.
        fp16: The fp16 bundle.
        int8: The int8 bundle.
        verdict: The gate's verdict, which holds the chosen variant's metrics.
        variant: fp32, fp16 or int8: the gate's choice.
        target: A directory, or an address such as s3://bucket/models/prometheus-mini.
        run_id: The run that made the bundle.
        code_version: Version of the code.

    Returns:
        Output: Address of the published bundle.
    """
    from components.step import step

    with step("publish"):
        from evaluation.results import Verdict
        from model.bundle.publish import publish as publish_bundle

        path = {"fp32": fp32.path, "fp16": fp16.path, "int8": int8.path}[variant]
        metrics = Verdict.read(verdict.path).metrics
        provenance = {"run_id": run_id, "code_version": code_version, "hardware": metrics.get("hardware")}
        address = publish_bundle(path, target, metrics, provenance)
        print(f"published {variant} at {address}")
    return address
