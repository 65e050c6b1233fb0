"""Does the fp32 bundle say what PyTorch says? Greedy outputs and logits on held-out sentences, compared.

The bundle translates (or continues) by its decode path, one token at a time in padded batches. PyTorch then reads each
prompt with that output in one forward pass: where its own choice after every prefix is the output's next token, its
greedy output is the same by induction. The logits of all those positions are compared as numbers.

    python -m model.onnx.parity BUNDLE CHECKPOINT --corpus CORPUS
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from model.bundle import Bundle
from model.network import Transformer
from model.onnx.calibrate import corpus_examples
from model.onnx.runner import Runner
from model.options import FAILED, OK, Parser, read_settings, run
from model.settings import Count, Settings, setting
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.examples import Example, pad
from model.training.checkpoint import load_checkpoint

TOLERANCE = 1e-4
BATCH = 16


class ParitySettings(Settings):
    """On how much bundle and network are compared."""

    sentences: Count = setting(200, "Held-out sentences, the first that fit the network.")


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
    bundle: Bundle, checkpoint_dir: str | Path, prompts: Sequence[list[int]], steps: int = 64, threads: int = 0
) -> Parity:
    """Compare a bundle with its checkpoint on prompts (token ids), at most ``steps`` new tokens each."""
    state, _ = load_checkpoint(checkpoint_dir)
    network = Transformer(bundle.config, bundle.vocab_size)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    network.eval()
    runner = Runner({role: bundle.graph(role) for role in bundle.graphs}, bundle.config, threads)
    ordered = sorted(prompts, key=len)
    found = [_compare(network, runner, ordered[i : i + BATCH], steps) for i in range(0, len(ordered), BATCH)]
    return Parity(
        rows=len(prompts),
        identical=sum(part.identical for part in found),
        positions=sum(part.positions for part in found),
        logits_difference=max((part.logits_difference for part in found), default=0.0),
    )


def _compare(network: Transformer, runner: Runner, prompts: list[list[int]], steps: int) -> Parity:
    """As :func:`compare`, in one batch."""
    family, size = network.config.family, network.config.max_positions
    count = min(steps, size - (1 if family == "seq2seq" else len(prompts[-1])))
    outputs = runner.greedy(prompts, count, Tokenizer.bos_id, Tokenizer.eos_id)
    examples = [Example(family, p, [*output, Tokenizer.eos_id]) for p, output in zip(prompts, outputs, strict=True)]
    # Padding is to the right, so neither masks nor causal attention let it reach a real token.
    (sources, _), (ids, lengths) = pad(prompts), pad([example.inputs for example in examples])
    with torch.inference_mode():
        theirs = network(torch.from_numpy(sources), torch.from_numpy(ids)).numpy()
    runner.start(prompts, rows=len(prompts))
    ours = runner.score(ids)
    identical, difference = 0, 0.0
    for row, (example, end) in enumerate(zip(examples, lengths, strict=True)):
        difference = max(difference, float(np.abs(ours[row, :end] - theirs[row, :end]).max()))
        expected = example.answer[:count]  # one that is cut short has not said </s>
        first = end - len(example.answer)
        identical += theirs[row, first : first + len(expected)].argmax(axis=1).tolist() == expected
    return Parity(len(prompts), identical, int(lengths.sum()), difference)


def parser() -> Parser:
    """What to compare, and on which sentences."""
    made = Parser("model.onnx.parity", __doc__)
    made.add_argument("bundle", type=Path, help="fp32 bundle made by python -m model.onnx.export")
    made.add_argument("checkpoint", type=Path, help="what it was exported from")
    made.add_argument("--corpus", type=Path, required=True, help="its held-out split gives the sentences")
    made.add_settings(ParitySettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 1 where they differ."""
    options = parser().parse_args(argv)
    sentences = read_settings(ParitySettings, options).sentences
    bundle = Bundle.load(options.bundle)
    size = bundle.config.max_positions
    examples = corpus_examples(bundle, load_tokenizer(bundle.path), options.corpus, "heldout")
    fitting = islice((example for example in examples if example.width <= size), sentences)
    # A text has no prompt of its own: its first half is continued.
    prompts = [e.prompt if bundle.task == "translation" else e.inputs[: max(size // 2, 1)] for e in fitting]
    result = compare(bundle, options.checkpoint, prompts)
    print(f"greedy outputs identical: {result.identical} of {result.rows}")
    print(f"largest logits difference over {result.positions} positions: {result.logits_difference:.2e}")
    print("passed" if result.passed else f"FAILED (all outputs identical, logits within {TOLERANCE:g})")
    return OK if result.passed else FAILED


if __name__ == "__main__":
    sys.exit(run(main))
