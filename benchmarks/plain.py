"""How our recipe does in half of the time that a plain Transformer is given, on the same batches.

Plain is what OpenNMT and JoeyNMT ship, of PyTorch's own parts (benchmarks/baselines.py): a pre-norm Transformer of the
same depth, width and, to a tenth, parameters; AdamW; a learning rate that rises linearly and falls with the inverse
square root of the step. Nothing is dropped and no label smoothed, for at this length both cost it quality. Our network
trains first, from the first step to the end of its schedule; then the plain one trains for twice as long, once with
each peak rate, and the best of these counts. Both see the same batches in the same order.

    python -m benchmarks.plain corpus tokenizer --set training.steps=300 --rates 5e-4 1e-3 2e-3
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.baselines import EncoderDecoder
from benchmarks.machine import BenchmarkError, heading, keep, markdown
from benchmarks.options import profile_of, training_parser
from evaluation.figures import processor
from model.config import Profile
from model.network import count_parameters
from model.options import OK, Parser, run
from model.tokenizer import load_tokenizer
from model.training.batches import Batch, Examples
from model.training.device import choose_precision
from model.training.loop import train

FIGURES = ("parameters", "steps", "train_tokens", "seconds", "valid_loss", "precision")  # taken from training.json
RATES = (5e-4, 1e-3, 2e-3)
TIMES = 2  # what the plain one gets of our time

Json = dict[str, Any]


def rate(step: int, peak: float, warmup: int) -> float:
    """Of a step, from 1 on: linear up to the peak, then by the inverse square root (Vaswani et al. 2017)."""
    return peak * min(step / warmup, math.sqrt(warmup / step))


def train_plain(examples: Examples, peak: float, seconds: float) -> Json:
    """Train for so many seconds, validation not counted; what :data:`FIGURES` names, of the last weights."""
    config, device = examples.config, torch.device("cpu")
    dtype = choose_precision(config, device)
    torch.manual_seed(config.seed)
    network = EncoderDecoder(examples.network, examples.tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), fused=True)

    def loss(batch: Batch) -> torch.Tensor:
        """Summed cross-entropy in nats."""
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            logits = network(batch.source, batch.inputs).flatten(0, 1)[batch.places]
        return F.cross_entropy(logits.float(), batch.labels, reduction="sum")

    steps = tokens = 0
    began = time.perf_counter()
    for batch in examples.train_batches():
        steps, tokens = steps + 1, tokens + batch.tokens
        for group in optimizer.param_groups:
            group["lr"] = rate(steps, peak, config.warmup_steps)
        (loss(batch) / batch.target_tokens).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (took := time.perf_counter() - began) >= seconds:
            break
    valid = examples.valid_batches()
    network.eval()
    with torch.no_grad():
        nats = sum(loss(batch).item() for batch in valid) / sum(batch.target_tokens for batch in valid)
    figures = (count_parameters(network), steps, tokens, round(took, 1), nats, str(dtype).removeprefix("torch."))
    return {"rate": peak, **dict(zip(FIGURES, figures, strict=True))}


def measure(profile: Profile, corpus: Path, tokenizer: Path, rates: Sequence[float]) -> Json:
    """Both, one after the other.

    Raises:
        BenchmarkError: for a profile whose network has no encoder.
    """
    if profile.network.family != "seq2seq":
        raise BenchmarkError(f"profile {profile.name}: has no encoder, and the plain network beside it has one")
    with tempfile.TemporaryDirectory(prefix="plain-") as folder:
        info = train(corpus, corpus, tokenizer, folder, profile.network, profile.training)
    examples = Examples(corpus, load_tokenizer(tokenizer), profile.network, profile.training)
    examples.tokenise()
    plain = []
    for peak in rates:
        plain.append(train_plain(examples, peak, TIMES * info["seconds"]))
        print(f"  plain, peak rate {peak:g}: {plain[-1]['valid_loss']:.4f}", file=sys.stderr)
    return {"profile": profile.name, "ours": {name: info[name] for name in FIGURES}, "plain": plain}


def plain_table(result: Json) -> str:
    """Markdown: a line for ours, and one for each rate of the plain one."""
    rows = [
        [
            what,
            f"{found['parameters'] / 1e6:.2f}",
            f"{found['seconds']:.0f}",
            f"{found['steps']:,}",
            f"{found['train_tokens'] / 1e6:.2f}",
            f"{found['valid_loss']:.3f}",
        ]
        for what, found in (
            ("ours", result["ours"]),
            *((f"plain, peak rate {found['rate']:g}", found) for found in result["plain"]),
        )
    ]
    caption = (
        f"Validation loss in nats per token at the end; profile `{result['profile']}`, {result['ours']['precision']}, "
        f"one seed, the same batches in the same order. {processor(result['machine'])}, {result['date'][:10]}."
    )
    heads = ["recipe", "M parameters", "seconds", "steps", "M tokens", "validation loss"]
    return f"{markdown(heads, rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, and what is changed of the profile."""
    made = training_parser("plain", __doc__)
    made.add_argument(
        "--rates", nargs="+", type=float, default=[*RATES], help="peak rates of the plain one (%(default)s)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and show."""
    options = parser().parse_args(argv)
    os.environ["PROMETHEUS_TRACKING"] = "off"
    found = measure(profile_of(options), options.corpus, options.tokenizer, options.rates)
    result = {**heading("plain"), **found}
    keep(result, options.out, plain_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
