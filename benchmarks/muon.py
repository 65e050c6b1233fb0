"""Whether later forms of Muon learn more than ours in the same steps, on the same batches.

Two that are known to help on larger networks: Polar Express (Amsel et al. 2025, https://arxiv.org/abs/2505.16932), of
which every step has coefficients of its own, and NorMuon (Li et al. 2025, https://arxiv.org/abs/2510.05491), which
makes all neurons of a matrix move alike. Each form trains the same network from the same weights, with each seed.

    python -m benchmarks.muon corpus tokenizer --set training.steps=300 --seeds 0 1
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import heading, keep, markdown
from benchmarks.options import profile_of, training_parser
from evaluation.figures import processor
from model.config import Profile
from model.options import OK, Parser, run
from model.training import optimizer
from model.training.loop import train
from model.training.muon import EPS, Muon, orthogonal

FIGURES = ("parameters", "steps", "train_tokens", "seconds", "valid_loss", "precision")  # taken from training.json
# Of five steps for singular values from 0.001 on, with a margin of 2 %: as nanochat has them (nanochat/optim.py).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
MARGIN = 1.02
BETA = 0.95  # of the mean square of each neuron's moves

Json = dict[str, Any]


class PolarExpress(Muon):
    """Muon whose steps have coefficients of their own."""

    def _updates(self, matrices: list[nn.Parameter], x: Tensor) -> Tensor:
        a, b, c = POLAR_EXPRESS[0]
        first = (a / MARGIN, b / MARGIN**3, c / MARGIN**5)  # as if the matrix was smaller by the margin
        return orthogonal(x.to(self.dtype), (first, *POLAR_EXPRESS[1:]))


class NorMuon(Muon):
    """Muon that divides the move of each neuron, a row of its matrix, by what it was over the last steps.

    The move of the matrix as a whole is as large as Muon's, so that both have the same rates.
    """

    def _updates(self, matrices: list[nn.Parameter], x: Tensor) -> Tensor:
        updates = super()._updates(matrices, x).float()
        for matrix, update in zip(matrices, updates, strict=True):
            rows = update.T if matrix.shape[0] > matrix.shape[1] else update
            square = rows.square().mean(1, keepdim=True)
            mean = self.state[matrix].setdefault("mean_square", torch.zeros_like(square)).lerp_(square, 1 - BETA)
            alike = rows / mean.sqrt().clamp(min=EPS)
            rows.copy_(alike * (rows.norm() / alike.norm().clamp(min=EPS)))
        return updates


class Both(NorMuon, PolarExpress):
    """NorMuon over Polar Express."""


FORMS: dict[str, type[Muon]] = {"Muon": Muon, "Polar Express": PolarExpress, "NorMuon": NorMuon, "both": Both}


@contextlib.contextmanager
def moved_by(form: type[Muon]) -> Iterator[None]:
    """Matrices are trained by this form."""
    ours = optimizer.Muon
    setattr(optimizer, "Muon", form)  # noqa: B010 - a type is no variable to mypy
    try:
        yield
    finally:
        setattr(optimizer, "Muon", ours)  # noqa: B010


def measure(profile: Profile, corpus: Path, tokenizer: Path, seeds: Sequence[int]) -> Json:
    """Every form with every seed, one after the other."""
    found: list[Json] = []
    for seed in seeds:
        config = profile.training.model_copy(update={"seed": seed})
        for name, form in FORMS.items():
            with tempfile.TemporaryDirectory(prefix="muon-") as folder, moved_by(form):
                info = train(corpus, corpus, tokenizer, folder, profile.network, config)
            found.append({"form": name, "seed": seed} | {figure: info[figure] for figure in FIGURES})
            print(f"  {name}, seed {seed}: {found[-1]['valid_loss']:.4f}", file=sys.stderr)
    return {"profile": profile.name, "runs": found}


def muon_table(result: Json) -> str:
    """Markdown: a line for each form, with the loss of each seed."""
    runs, seeds = result["runs"], sorted({found["seed"] for found in result["runs"]})
    rows = []
    for name in FORMS:
        own = {found["seed"]: found for found in runs if found["form"] == name}
        losses = [own[seed]["valid_loss"] for seed in seeds]
        mean, seconds = (sum(values) / len(seeds) for values in (losses, [own[seed]["seconds"] for seed in seeds]))
        rows.append([name, *(f"{loss:.3f}" for loss in losses), f"{mean:.3f}", f"{seconds:.0f}"])
    first = runs[0]
    caption = (
        f"Validation loss in nats per token at the end of {first['steps']:,} steps, {first['train_tokens'] / 1e6:.2f} "
        f"million tokens; {first['parameters'] / 1e6:.2f} million parameters, profile `{result['profile']}` with "
        f"changes, {first['precision']}. {processor(result['machine'])}, {result['date'][:10]}."
    )
    return f"{markdown(['form', *(f'seed {seed}' for seed in seeds), 'mean', 'seconds'], rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, what is changed of the profile, and how often."""
    made = training_parser("muon", __doc__)
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of weights and batches (default: 0 1)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and show."""
    options = parser().parse_args(argv)
    os.environ["PROMETHEUS_TRACKING"] = "off"
    result = {**heading("muon"), **measure(profile_of(options), options.corpus, options.tokenizer, options.seeds)}
    keep(result, options.out, muon_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
