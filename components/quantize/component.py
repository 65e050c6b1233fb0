"""Step 5, once per precision: an fp32 bundle becomes a smaller and faster one."""

from kfp import dsl

from components.image import component


@component
def quantize(
    bundle: dsl.Input[dsl.Model],
    corpus: dsl.Input[dsl.Dataset],
    precision: str,
    config: dict,
    code_version: str,
    quantized: dsl.Output[dsl.Model],
):
    """Rebuild the bundle's graphs in fp16 or int8.

    Args:
        bundle: The fp32 bundle.
        corpus: The corpus whose valid split calibrates static scales.
        precision: fp16 or int8.
        config: The profile's quantization section (model.config.QuantizationConfig).
        code_version: Version of the code; part of the cache's key.

    Returns:
        quantized: A bundle of its own.
    """
    from components.step import step

    with step(f"quantize-{precision}", quantized=quantized.path):
        from model.config import QuantizationConfig, from_dict
        from model.onnx.quantize import quantize_bundle

        settings = from_dict(QuantizationConfig, config)
        manifest = quantize_bundle(bundle.path, corpus.path, quantized.path, precision, settings)
        quantized.metadata.update(family=manifest["family"], precision=manifest["precision"])
