"""Does the fp32 bundle say what PyTorch says? Greedy outputs and logits on held-out sentences, compared.

The bundle translates (or continues) by its decode path, one token at a time in padded batches. PyTorch then reads each
prompt with that output in one forward pass: where its own choice after every prefix is the output's next token, its
greedy output is the same by induction. The logits of all those positions are compared as numbers.

    python -m model.onnx.parity BUNDLE CHECKPOINT --corpus CORPUS
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from model.bundle import Bundle
from model.onnx.calibrate import corpus_examples
from model.onnx.runner import Runner
from model.tokenizer import load_tokenizer
from model.tokenizer.examples import pad

TOLERANCE = 1e-4
BATCH = 16


@dataclass(frozen=True)
class Parity:
    """Rows compared, rows whose greedy output is identical, positions compared, largest difference of any logit."""

    rows: int
    identical: int
    positions: int
    logits_difference: float

    @property
    def passed(self) -> bool:
        return self.identical == self.rows > 0 and self.logits_difference <= TOLERANCE


def compare(
    bundle: Bundle, checkpoint_dir: str | Path, prompts: Sequence[Sequence[int]], steps: int = 64, threads: int = 0
) -> Parity:
    """Compare a bundle with its checkpoint on prompts (token ids), at most ``steps`` new tokens each; needs torch."""
    import torch

    from model.network import build_network
    from model.training.checkpoint import load_checkpoint

    state, _ = load_checkpoint(checkpoint_dir)
    network = build_network(bundle.config, bundle.vocab_size)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    network.eval()
    tokenizer = load_tokenizer(bundle.path)
    seq2seq = bundle.family == "seq2seq"
    runner = Runner({role: bundle.graph(role) for role in bundle.graphs}, bundle.config, threads)
    identical, positions, difference = 0, 0, 0.0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        longest = bundle.config.max_positions - (1 if seq2seq else max(map(len, batch)))
        count = min(steps, longest)
        outputs = runner.greedy(batch, count, tokenizer.bos_id, tokenizer.eos_id)
        fed = [[tokenizer.bos_id, *out] if seq2seq else [*row, *out] for row, out in zip(batch, outputs, strict=True)]
        # Padding is to the right, so neither masks nor causal attention let it reach a real token.
        (sources, _), (ids, lengths) = pad(batch), pad(fed)
        with torch.inference_mode():
            tokens = torch.from_numpy(ids)
            theirs = (network(torch.from_numpy(sources), tokens) if seq2seq else network(tokens)).numpy()
        runner.start(batch, rows=len(batch))
        ours = runner.score(ids)
        for row, (prompt, output) in enumerate(zip(batch, outputs, strict=True)):
            end, first = int(lengths[row]), 0 if seq2seq else len(prompt) - 1
            difference = max(difference, float(np.abs(ours[row, :end] - theirs[row, :end]).max()))
            expected = [*output, tokenizer.eos_id] if len(output) < count else output
            identical += theirs[row, first : first + len(expected)].argmax(axis=1).tolist() == expected
            positions += end
    return Parity(len(prompts), identical, positions, difference)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare an fp32 bundle with the PyTorch network it was exported from."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="corpus whose held-out split gives the sentences")
    parser.add_argument("--rows", type=int, default=200)
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    size = bundle.config.max_positions
    examples = corpus_examples(bundle, load_tokenizer(bundle.path), arguments.corpus, "heldout")
    fitting = islice((example for example in examples if example.width <= size), arguments.rows)
    # A text has no prompt of its own: its first half is continued.
    prompts = [e.prompt if bundle.task == "translation" else e.inputs[: max(size // 2, 1)] for e in fitting]
    result = compare(bundle, arguments.checkpoint, prompts)
    print(f"greedy outputs identical: {result.identical} of {result.rows}")
    print(f"largest logits difference over {result.positions} positions: {result.logits_difference:.2e}")
    print("passed" if result.passed else f"FAILED (all outputs identical, logits within {TOLERANCE:g})")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
