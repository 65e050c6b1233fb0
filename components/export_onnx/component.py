"""Step 4: a checkpoint becomes a servable bundle of ONNX graphs in fp32."""

from kfp import dsl

from components.image import component


@component
def export_onnx(
    checkpoint: dsl.Input[dsl.Model],
    tokenizer: dsl.Input[dsl.Artifact],
    code_version: str,
    bundle: dsl.Output[dsl.Model],
):
    """Build the serving graphs (KV cache in and out) from the weights.

    Args:
        checkpoint: The trained network.
        tokenizer: Its tokenizer, copied into the bundle.
        code_version: Version of the code; part of the cache's key.

    Returns:
        bundle: bundle.json, the tokenizer's files and the ONNX graphs, every file with its hash.
    """
    from components.step import step

    with step("export-onnx", bundle=bundle.path):
        from model.onnx.export import export_bundle

        manifest = export_bundle(checkpoint.path, tokenizer.path, bundle.path)
        bundle.metadata.update(family=manifest["family"], precision=manifest["precision"])
