"""From a checkpoint to a bundle: export, then quantization where it is not fp32. Nothing here imports the engine."""

import tempfile
from typing import Any

from evaluation.examples import introduce
from model.bundle import Bundle
from model.config import EvaluationConfig, QuantizationConfig
from model.onnx.export import export_bundle
from model.onnx.quantize import quantize_bundle


def make_bundle(
    checkpoint: str,
    tokenizer: str,
    holdout: str,
    out: str,
    precision: str,
    config: QuantizationConfig,
    shown: EvaluationConfig,
) -> dict[str, Any]:
    """Write the bundle of a precision to ``out``; its manifest.

    Args:
        shown: how many examples the bundle carries, and what it says of itself.

    Raises:
        CheckpointError, GraphError: as export and quantization do.
    """
    introduction = introduce(holdout, shown)
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        exported = out if precision == "fp32" else f"{folder}/fp32"
        manifest = export_bundle(checkpoint, tokenizer, exported, introduction)
        if precision == "fp32" and (count := len(introduction["examples"])):
            print(f"examples: {count} held-out texts go with the bundle (evaluation.examples)", flush=True)
        print(f"export: fp32, {Bundle.load(exported).bytes:,} bytes", flush=True)
        if precision != "fp32":
            manifest = quantize_bundle(exported, holdout, out, precision, config)
            print(f"quantize: {precision}, {Bundle.load(out).bytes:,} bytes", flush=True)
    return manifest
