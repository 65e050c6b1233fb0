"""Checkpoint -> fp32 bundle: builds the serving graphs straight from the weights, without torch.

python -m model.onnx.export CHECKPOINT TOKENIZER OUT
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from model.bundle import write_bundle
from model.bundle.introduction import Introduction
from model.config import NetworkConfig, from_dict
from model.onnx.transformer import build_graphs
from model.onnx.weights import GraphError, pack
from model.options import OK, Parser, run
from model.tokenizer import load_tokenizer
from model.training.checkpoint import load_checkpoint

# Kept as provenance.
TRAINING_FACTS = ("steps", "best_step", "valid_loss", "seed", "parameters", "init_from", "pruning", "distillation")


def limits(config: NetworkConfig) -> dict[str, int]:
    """Longest prompt and longest output. A decoder-only text holds both, so together they share ``max_positions``."""
    prompt = config.max_positions if config.family == "seq2seq" else max(config.max_positions - 1, 1)
    return {"max_prompt_tokens": prompt, "max_new_tokens": config.max_positions}


def export_bundle(
    checkpoint_dir: str | Path, tokenizer_dir: str | Path, out: str | Path, introduction: Introduction | None = None
) -> dict[str, Any]:
    """Write the fp32 bundle of a trained checkpoint; its manifest.

    Args:
        introduction: what the bundle says of itself; None leaves it out.

    Raises:
        CheckpointError: checkpoint incomplete or damaged.
        GraphError: checkpoint made with another tokenizer, tensors that do not fit the network.
    """
    state, info = load_checkpoint(checkpoint_dir)
    config = from_dict(NetworkConfig, info["network"], f"{checkpoint_dir}: network")
    tokenizer = load_tokenizer(tokenizer_dir)
    given = tokenizer.content_hash()
    known = info.get("sha256", {}).get("tokenizer", given)  # earlier releases kept none
    if (tokenizer.vocab_size, given) != (info["vocab_size"], known):
        raise GraphError(
            f"{tokenizer_dir}: {tokenizer.vocab_size} tokens, sha256 {given[:10]}, but "
            f"{checkpoint_dir} was trained with {info['vocab_size']}, {known[:10]}; give the tokenizer the checkpoint "
            "was trained with"
        )
    graphs = build_graphs(pack(state, config, info["vocab_size"]), config)
    return write_bundle(
        out,
        files={
            **{f"{role}.onnx": graph for role, graph in graphs.items()},
            **{name: Path(tokenizer_dir) / name for name in tokenizer.files},
        },
        family=config.family,
        task=info["task"],
        precision="fp32",
        languages=info["languages"],
        authors=info["authors"],
        config=config,
        vocab_size=info["vocab_size"],
        limits=limits(config),
        tokenizer={"kind": tokenizer.kind, "sha256": given},
        graphs={role: f"{role}.onnx" for role in graphs},
        provenance={
            "training": {key: info[key] for key in TRAINING_FACTS if key in info},
            "versions": {"onnx": onnx.__version__, **info.get("versions", {})},
        },
        **({"introduction": introduction} if introduction else {}),
    )


def parser() -> Parser:
    """Where from and where to."""
    made = Parser("model.onnx.export", __doc__)
    made.add_argument("checkpoint", type=Path, help="folder made by python -m model.training")
    made.add_argument("tokenizer", type=Path, help="folder made by python -m model.tokenizer")
    made.add_argument("out", type=Path, help="where the bundle is written")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Export, and print the bundle's files."""
    options = parser().parse_args(argv)
    for name, entry in export_bundle(options.checkpoint, options.tokenizer, options.out)["files"].items():
        print(f"{entry['bytes']:>12,}  {options.out / name}")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
