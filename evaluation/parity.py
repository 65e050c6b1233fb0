"""Does the engine say what PyTorch says of the same checkpoint? Greedy outputs and log-probabilities, compared.

The engine translates (or continues) held-out sentences as it serves, many at once, and tells the likeliest tokens of
every step. PyTorch then reads each prompt with that output in one forward pass: where its own choice after every prefix
is the output's next token, its greedy output is the same by induction.

    python -m evaluation.parity BUNDLE CHECKPOINT --corpus CORPUS
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from evaluation.evaluate import check_corpus
from evaluation.prompts import bounded_request, cut, directions, translation_prompt
from model.bundle import Bundle
from model.corpus import read_card, read_split
from model.network import Transformer
from model.onnx.weights import check_state
from model.options import FAILED, OK, Parser, read_settings, run
from model.settings import Count, Settings, setting
from model.tokenizer.prompt import Example
from model.training.checkpoint import load_checkpoint
from serving.engine import Engine

TOLERANCE = 1e-4
LIKELIEST = 20  # tokens of a step whose log-probabilities are compared, besides the chosen one's


class ParitySettings(Settings):
    """On how much bundle and network are compared."""

    sentences: Count = setting(200, "Held-out sentences, the first ones; a prompt that is too long is cut.")


@dataclass(frozen=True)
class Parity:
    """Rows compared, those with an identical greedy output, positions, largest difference of a log-probability."""

    rows: int
    identical: int
    positions: int
    difference: float

    @property
    def passed(self) -> bool:
        """Whether every output is the same, and no log-probability further away than TOLERANCE."""
        return self.identical == self.rows > 0 and self.difference <= TOLERANCE


def compare(engine: Engine, checkpoint_dir: str | Path, prompts: Sequence[list[int]], steps: int = 64) -> Parity:
    """Compare what an engine serves with its checkpoint on prompts (token ids), at most ``steps`` new tokens each.

    Raises:
        GraphError: when the checkpoint is of another network.
    """
    state, _ = load_checkpoint(checkpoint_dir)
    config, eos_id = engine.bundle.config, engine.tokenizer.eos_id
    check_state(state, config, engine.bundle.vocab_size)
    network = Transformer.from_weights(config, engine.bundle.vocab_size, state)
    never_said = [i for i in range(len(engine.tokenizer.control_tokens)) if i != eos_id]
    requests = [bounded_request(engine, prompt, steps, logprobs=LIKELIEST) for prompt in prompts]
    identical, differences = 0, [0.0]
    for prompt, result in zip(prompts, engine.generate(requests), strict=True):
        said = [*result.token_ids, *([eos_id] if result.finish_reason == "eos_token" else [])]
        inputs = Example(config.family, prompt, said).inputs
        with torch.inference_mode():
            logits = network(torch.tensor([prompt]), torch.tensor([inputs]))[0, -len(said) :]
        theirs = logits.double().log_softmax(-1).numpy()  # [said, vocabulary]
        for i, ours in enumerate(result.logprobs or []):
            likeliest = dict([(ours.token_id, ours.logprob), *ours.top])
            differences.append(np.abs(theirs[i, list(likeliest)] - list(likeliest.values())).max())
        theirs[:, never_said] = -np.inf
        identical += theirs.argmax(axis=1).tolist() == said
    return Parity(len(prompts), identical, len(differences) - 1, float(np.max(differences)))


def parser() -> Parser:
    """What to compare, and on which sentences."""
    made = Parser("evaluation.parity", __doc__)
    made.add_argument("bundle", type=Path, help="fp32 bundle made by python -m model.onnx.export")
    made.add_argument("checkpoint", type=Path, help="what it was exported from")
    made.add_argument("--corpus", type=Path, required=True, help="its held-out split gives the sentences")
    made.add_settings(ParitySettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 1 where they differ."""
    options = parser().parse_args(argv)
    bundle, count = Bundle.load(options.bundle), read_settings(ParitySettings, options).sentences
    check_corpus(bundle, read_card(options.corpus), options.corpus)
    ways = directions(bundle)
    with Engine(bundle) as engine:
        prompts = [
            translation_prompt(engine, row, *ways[i % 2]) if ways else engine.prompt(row["text"])
            for i, row in enumerate(islice(read_split(options.corpus, "heldout"), count))
        ]
        result = compare(engine, options.checkpoint, cut(engine, prompts)[0])
    print(f"greedy outputs identical: {result.identical} of {result.rows}")
    print(f"largest difference of a log-probability over {result.positions} positions: {result.difference:.2e}")
    print("passed" if result.passed else f"FAILED (all outputs identical, log-probabilities within {TOLERANCE:g})")
    return OK if result.passed else FAILED


if __name__ == "__main__":
    sys.exit(run(main))
