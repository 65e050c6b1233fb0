"""fp32 bundle -> fp16 or int8 bundle. Needs only the bundle: the weights are read back from its graphs.

fp16 halves the bytes and is what a GPU wants; on a CPU it runs too, through casts. int8 is for the CPU: integer
matrices and an integer cache, a quarter of the bytes, and results that do not depend on a request's neighbours.

    python -m model.onnx.quantize BUNDLE CORPUS OUT --precision int8
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle import Bundle, write_bundle
from model.config import QuantizationConfig
from model.onnx.calibrate import calibrate_bundle
from model.onnx.graph import Calibration, Precision
from model.onnx.transformer import build_graphs
from model.onnx.weights import GraphError, Weights, read_packed
from model.options import OK, Parser, read_settings, run
from model.row_counts import sentence


def quantize_bundle(
    bundle_dir: str | Path,
    corpus_dir: str | Path,
    out: str | Path,
    precision: str,
    config: QuantizationConfig | None = None,
) -> dict[str, Any]:
    """Write the fp16 or int8 variant of an fp32 bundle; its manifest. ``corpus_dir`` is read for int8 only.

    Raises:
        GraphError: source not fp32, unknown precision, weights beyond fp16's range, a corpus of another kind.
    """
    config = config or QuantizationConfig()
    if precision not in ("fp16", "int8"):
        raise GraphError(f"precision: expected fp16 or int8, found {precision!r}")
    bundle = Bundle.load(bundle_dir)
    if bundle.precision != "fp32":
        raise GraphError(f"{bundle_dir}: is {bundle.precision}; give the fp32 bundle that export wrote")
    weights = read_packed([bundle.graph(role) for role in bundle.graphs])
    calibration: Calibration | None = None
    settings: dict[str, Any] = {"precision": precision}
    if precision == "fp16":
        _check_fp16_range(weights)
    else:
        calibration, rows = calibrate_bundle(bundle, weights, corpus_dir, config.calibration_rows)
        print(sentence([rows]), flush=True)
        settings["row_counts"] = [rows]
        settings["activation_scale"] = config.activation_scale
        settings["cache_bounds"] = {"keys": calibration.keys, "values": calibration.values}
        if config.activation_scale == "static":
            bounds = calibration.activations
            settings["activation_bounds"] = {name: bounds[name] for name in bounds if not name.endswith(".down")}
    kind: Precision = "int8" if calibration else "fp16"
    graphs = build_graphs(weights, bundle.config, kind, calibration, config.activation_scale)
    return write_bundle(
        out,
        files={
            **{name: bundle.path / name for name in bundle.files},
            **{name: graphs[role] for role, name in bundle.graphs.items()},
        },
        precision=precision,
        provenance={**bundle.provenance, "quantization": settings},
        **bundle.model_dump(exclude={"format_version", "precision", "cache_dtype", "files", "metrics", "provenance"}),
    )


def _check_fp16_range(weights: Weights) -> None:
    limit = np.finfo(np.float16).max
    for name, values in weights.items():
        if (largest := np.abs(values).max()) > limit:
            raise GraphError(f"{name}: holds {largest:g}, beyond float16's {limit:g}; serve fp32 or int8 instead")


def parser() -> Parser:
    """Where from and where to, and every setting of quantization."""
    made = Parser("model.onnx.quantize", __doc__)
    made.add_argument("bundle", type=Path, help="fp32 bundle made by python -m model.onnx.export")
    made.add_argument("corpus", type=Path, help="its valid split calibrates int8")
    made.add_argument("out", type=Path, help="where the variant is written")
    made.add_argument("--precision", choices=["fp16", "int8"], default="int8", help="(default: %(default)s)")
    made.add_settings(QuantizationConfig)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Quantize, and print both sizes."""
    options = parser().parse_args(argv)
    config = read_settings(QuantizationConfig, options)
    quantize_bundle(options.bundle, options.corpus, options.out, options.precision, config)
    before, after = Bundle.load(options.bundle).bytes, Bundle.load(options.out).bytes
    print(f"{options.out}: {after:,} bytes, {after / before:.1%} of fp32's {before:,}")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
