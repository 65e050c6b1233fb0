"""Step 6, only when the gate lets it: the chosen bundle goes where servers find it."""

from kfp import dsl

from components.image import component


@component
def publish(
    fp32: dsl.Input[dsl.Model],
    fp16: dsl.Input[dsl.Model],
    int8: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    variant: str,
    store: str,
    run_id: str,
    code_version: str,
    code: str,
) -> str:
    """Copy the chosen bundle with its metrics and its provenance to the store, under the run's name.

    Args:
        fp32: The fp32 bundle.
        fp16: The fp16 bundle.
        int8: The int8 bundle.
        verdict: The gate's verdict, which holds the chosen variant's metrics, and its beams by default.
        variant: fp32, fp16 or int8: the gate's choice.
        store: A folder, s3://bucket/prefix or pvc://claim/prefix; the bundle goes to STORE/RUN_ID/bundle.
        run_id: The run that made the bundle.
        code_version: Version of the code, kept in the bundle's provenance.
        code: Hash of the step's code.

    Returns:
        Output: Address of the published bundle.
    """
    from components.step import step

    with step("publish", code):
        from components.handover import hand_over, reports
        from evaluation.results import Verdict
        from model.store import publish as publish_bundle

        paths, judged = {"fp32": fp32.path, "fp16": fp16.path, "int8": int8.path}, Verdict.read(verdict.path)
        provenance = {"run_id": run_id, "code_version": code_version, "hardware": judged.metrics.get("hardware")}
        told, beams = reports(verdict.path, run_id), judged.generation.beams
        address = publish_bundle(paths[variant], store, run_id, judged.metrics, provenance, told, beams)
        print(f"published {variant} at {address}")
        hand_over(verdict.path, {"variant": variant, "path": address})
    return address
