"""Our side's models: bundles of random weights in every precision, made through the real export.

The weights are kept beside them (``weights.safetensors``) for the engines that can run our own layers.

    python -m benchmarks.serving.models build/bench-serving        # `make bench-serving` does it
"""

import json
import math
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from benchmarks.serving.shapes import CONTROL_TOKENS, EOS, FIRST_TEXT_TOKEN, SCALES, VOCABULARY
from model.bundle import write_bundle
from model.config import NetworkConfig, to_dict
from model.onnx.calibrate import calibrate
from model.onnx.export import limits
from model.onnx.graph import Calibration, Precision
from model.onnx.transformer import build_graphs
from model.onnx.weights import Weights, pack, state_shapes
from model.options import OK, Parser, run
from model.tokenizer import load_tokenizer
from model.tokenizer.prompt import Example
from model.tokenizer.vocabulary import FORMAT_VERSION, NORMALIZATION, control_tokens

LANGUAGES = ["ru", "en"]
CALIBRATION_ROWS = 16
VARIANTS: dict[str, tuple[Precision, Literal["row", "static"]]] = {
    "ours-int8-row": ("int8", "row"),
    "ours-int8-static": ("int8", "static"),
    "ours-fp32": ("fp32", "row"),
}


def random_weights(config: NetworkConfig, vocab_size: int, seed: int = 0) -> Weights:
    """A state dict of random float32 weights, every projection non-zero: for benchmarks and tests without training."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in state_shapes(config, vocab_size).items():
        if len(shape) == 2:
            values: np.ndarray = rng.standard_normal(shape) / math.sqrt(shape[1])
        else:
            values = rng.uniform(0.5, 1.5, shape)
        state[name] = values.astype(np.float32)
    return state


def lively_weights(config: NetworkConfig, vocab_size: int, seed: int = 0) -> Weights:
    """A random state dict whose greedy text neither ends nor repeats one token for ever.

    Tied random embeddings make a network repeat its last token; random signs in the last norm cure that. The end
    token's row is a hundredth of the others, so that it never wins.
    """
    weights = random_weights(config, vocab_size, seed)
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([-1, 1], np.float32), weights["decoder.norm.weight"].shape)
    weights["decoder.norm.weight"] = weights["decoder.norm.weight"] * signs
    weights["embedding.weight"][EOS] *= 0.01
    return weights


def write_tokenizer(out: Path, vocab_size: int = VOCABULARY) -> Path:
    """A character tokenizer of exactly this size: ASCII and Cyrillic first, then ideographs."""
    control = list(control_tokens(LANGUAGES, []))
    assert len(control) == CONTROL_TOKENS
    points = [*range(0x20, 0x7F), *range(0x410, 0x450), 0x401, 0x451, *range(0x4E00, 0x9FA5)]
    known = [chr(point) for point in points if unicodedata.is_normalized("NFC", chr(point))]
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": "char",
        "normalization": NORMALIZATION,
        "control_tokens": control,
        "characters": "".join(known[: vocab_size - len(control) - 256]),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return out


def write_bundles(out: Path, config: NetworkConfig, variants: dict[str, Any] | None = None, seed: int = 0) -> None:
    """``weights.safetensors`` and one bundle per variant, in ``out``."""
    weights = lively_weights(config, VOCABULARY, seed)
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "weights.safetensors", {"network": json.dumps(to_dict(config))})
    tokenizer = load_tokenizer(write_tokenizer(out / "tokenizer"))
    packed = pack(weights, config, VOCABULARY)
    calibration: Calibration | None = None
    for name, (precision, scale) in (variants or VARIANTS).items():
        if precision == "int8" and calibration is None:
            calibration = calibrate(packed, config, _examples(config))
        graphs = build_graphs(packed, config, precision, calibration, scale)
        write_bundle(
            out / name,
            files={
                **{f"{role}.onnx": graph for role, graph in graphs.items()},
                "tokenizer.json": out / "tokenizer" / "tokenizer.json",
            },
            family=config.family,
            task="translation" if config.family == "seq2seq" else "text",
            precision=precision,
            languages=LANGUAGES,
            authors=[],
            config=config,
            vocab_size=VOCABULARY,
            limits=limits(config),
            tokenizer={"kind": tokenizer.kind, "sha256": tokenizer.content_hash()},
            graphs={role: f"{role}.onnx" for role in graphs},
        )


def parameters(config: NetworkConfig) -> int:
    """Numbers that training would set."""
    return sum(int(np.prod(shape)) for shape in state_shapes(config, VOCABULARY).values())


def _examples(config: NetworkConfig) -> list[Example]:
    random = np.random.default_rng(0)
    length = config.max_positions // 2
    rows = random.integers(FIRST_TEXT_TOKEN, VOCABULARY, (CALIBRATION_ROWS, 2, length - 1))
    return [Example(config.family, prompt, [*target, EOS]) for prompt, target in rows.tolist()]


def parser() -> Parser:
    """Where to, and how large."""
    made = Parser("benchmarks.serving.models", __doc__)
    made.add_argument("out", type=Path, help="where a folder for each family is made")
    made.add_argument("--scale", choices=sorted(SCALES), default="full", help="tiny is for the tests")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the models of every family."""
    options = parser().parse_args(argv)
    for family, network in SCALES[options.scale].networks.items():
        config = NetworkConfig(**network)
        write_bundles(options.out / family, config)
        print(f"{family}: {parameters(config):,} parameters")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
