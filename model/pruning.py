"""Attention heads that hardly matter are taken out of a trained network: out of its matrices, not only masked.

How much a head matters is measured on the validation split, as in Michel et al. 2019, "Are Sixteen Heads Really Better
than One?" (arXiv 1905.10650, equation 2): its output is multiplied by a gate that is 1, and counted is how far the loss
of an example would move with that gate, |dL / dgate|, the mean over all examples. As there, the figures of a block are
divided by their Euclidean norm, or the blocks next to the loss would outweigh the others.

Each block keeps a number of heads of its own (``network.head_counts``), for some blocks need all of theirs: the serving
graph takes the number as it takes any width, and the cache knows key/value heads alone. Those stay, as every query head
that is left needs one: so of each group of query heads that share one, as many are taken as of every other, its least
important, and one stays.

    python -m model.pruning CHECKPOINT CORPUS --out OUT --fraction 0.25
    python -m model.pruning CHECKPOINT CORPUS --out OUT --fraction 0.25 --retrain 200   # and trained a little more

Legend: B rows, S tokens, H query heads of a block, K key/value heads, h head width.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.config import NetworkConfig, TrainingConfig, from_dict, to_dict
from model.errors import ProjectError
from model.files import write_json
from model.network import Attention, Transformer, count_parameters
from model.onnx.weights import Weights, check_state
from model.options import OK, Parser, read_settings, run
from model.processors import available_cpus
from model.settings import Natural, Settings, setting
from model.tokenizer import Tokenizer, load_tokenizer
from model.training.batches import Batch, Examples
from model.training.checkpoint import INFO, TOKENIZER, WEIGHTS, finish, load_checkpoint, save_weights
from model.training.loop import train
from model.training.loss import linear_cross_entropy

RETRAIN_RATE = 0.2  # of the learning rates of the training before: a network that is nearly right is not shaken again

Importance = dict[str, np.ndarray]  # by block, as "encoder.0.attention": float64 [H]
Kept = dict[str, list[int]]  # by block: the heads that stay, in their order


class PruningError(ProjectError, ValueError):
    """Heads that cannot be taken out; the message says why."""


class PruningSettings(Settings):
    """What is taken out, and what follows."""

    fraction: float = setting(0.25, "Share of all query heads to take out, rounded down to whole heads.", gt=0, lt=1)
    retrain: Natural = setting(
        0, "Steps of training afterwards, by default at a fifth of the learning rates before; 0 leaves that out."
    )


def prune(
    checkpoint: str | Path,
    corpus: str | Path,
    out: str | Path,
    settings: PruningSettings,
    holdout: str | Path = "",
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a checkpoint with fewer heads; its ``training.json``, in which ``pruning`` says what was done.

    Args:
        checkpoint: folder made by :func:`model.training.loop.train`, with its tokenizer in it.
        corpus: folder made by :func:`model.corpus.prepare_corpus`; its valid split tells what matters.
        holdout: folder of the valid split, where that is one of its own.
        training: settings of the training afterwards that differ from those of the training before.

    Raises:
        PruningError: when so many heads cannot go, the corpus is another kind of text, or ``out`` is in use.
        CheckpointError, ExamplesError: as training.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if (out / INFO).exists():
        raise PruningError(f"{out}: holds a finished training already; choose a new folder")
    state, info = load_checkpoint(checkpoint)
    config, tokenizer = from_dict(NetworkConfig, info["network"]), load_tokenizer(checkpoint / TOKENIZER)
    check_state(state, config, tokenizer.vocab_size)
    again = _training(info, settings.retrain, training or {})
    torch.set_num_threads(again.threads or available_cpus())
    examples = Examples(corpus, tokenizer, config, again, holdout or None)
    if (examples.task, examples.languages) != (info["task"], info["languages"]):
        raise PruningError(
            f"{corpus}: is for {examples.task} in {', '.join(examples.languages)}, but {checkpoint} was trained for "
            f"{info['task']} in {', '.join(info['languages'])}; give text of the kind it was trained on"
        )
    batches, network = examples.valid_batches(), _network(state, config, tokenizer)
    found = importance(network, batches)
    kept = choose(found, config, settings.fraction)
    smaller, pruned = remove(state, config, kept)
    left = _network(smaller, pruned, tokenizer)
    losses = {"before": mean_loss(network, batches), "after": mean_loss(left, batches)}
    told: dict[str, Any] = {
        "of": {"name": checkpoint.resolve().name, **info.get("sha256", {})},
        "fraction": settings.fraction,
        "heads": {"before": sum(map(len, found.values())), "after": sum(map(len, kept.values()))},
        "parameters": {"before": count_parameters(network), "after": count_parameters(left)},
        "valid_loss": losses,
        "kept": kept,
        "importance": {block: [round(float(value), 6) for value in values] for block, values in found.items()},
    }
    own = {"network": to_dict(pruned), "parameters": count_parameters(left), "valid_loss": losses["after"]}

    def write(folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(left, folder)
        return finish(folder, {**info, **own, "pruning": told}, tokenizer, checkpoint / TOKENIZER)

    if not settings.retrain:
        return write(out)
    with tempfile.TemporaryDirectory(prefix="pruned-") as scratch:
        start = Path(scratch) / "pruned"
        write(start)
        info = train(corpus, holdout or corpus, start / TOKENIZER, out, pruned, again, init_from=str(start))
    trained, _ = load_checkpoint(out)
    losses["retrained"] = mean_loss(_network(trained, pruned, tokenizer), batches)  # training's own may be in bfloat16
    write_json(out / INFO, info := {**info, "pruning": told})
    return info


def importance(network: Transformer, batches: Sequence[Batch]) -> Importance:
    """The mean over all examples of |dL / dgate| of every head; L is an example's summed loss in nats."""
    gates, totals = dict[str, Tensor](), dict[str, Tensor]()

    def gated(block: str, heads: int) -> Callable[[nn.Module, tuple[Any, ...]], Tensor]:
        def multiply(_: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
            attended: Tensor = inputs[0]  # [B, S, H*h]
            # One for each example: the absolute value is taken before the mean.
            gates[block] = torch.ones(attended.shape[0], 1, heads, 1, requires_grad=True)
            return (attended.unflatten(-1, (heads, -1)) * gates[block]).flatten(2)

        return multiply

    hooks = [part.out.register_forward_pre_hook(gated(block, part.heads)) for block, part in _attentions(network)]
    try:
        for batch in batches:
            _loss(network, batch).backward()
            for block, gate in gates.items():
                assert gate.grad is not None
                moved = gate.grad.abs().sum(0).flatten().double()
                totals[block] = totals.get(block, torch.zeros_like(moved)) + moved
    finally:
        for hook in hooks:
            hook.remove()
    examples = sum(len((batch.places // batch.inputs.shape[1]).unique()) for batch in batches)  # the others are empty
    return {block: (total / examples).numpy() for block, total in totals.items()}


def choose(found: Importance, config: NetworkConfig, fraction: float) -> Kept:
    """Which heads stay, when ``fraction`` of all is taken: one of each group of a block at a time, the least important.

    Raises:
        PruningError: when that is less than one of each group of a block, or more than leaves one in every group.
    """
    groups, total = config.kv_heads, sum(map(len, found.values()))
    wanted, kept = int(fraction * total), {block: list(range(len(values))) for block, values in found.items()}
    steps = list[tuple[float, str, list[int]]]()
    for block, values in found.items():
        grouped = values.reshape(groups, -1) / max(float(np.linalg.norm(values)), 1e-300)
        order = grouped.argsort(axis=1, kind="stable")  # in each group, the least important first
        first = np.arange(groups)[:, None] * grouped.shape[1]
        for place in range(grouped.shape[1] - 1):
            value = float(np.take_along_axis(grouped, order[:, [place]], 1).sum())
            steps.append((value, block, (first + order[:, [place]]).ravel().tolist()))
    most = groups * len(steps)
    if not groups <= wanted <= most:
        raise PruningError(
            f"fraction {fraction:g} of {total} query heads is {wanted}: at least {groups} can be taken out, one for "
            f"each key/value head of a block, and at most {most}, so that each of them keeps one"
        )
    for _, block, heads in sorted(steps)[: wanted // groups]:
        kept[block] = [head for head in kept[block] if head not in heads]
    return kept


def remove(state: Weights, config: NetworkConfig, kept: Kept) -> tuple[Weights, NetworkConfig]:
    """The weights with the query rows and the output columns of these heads alone, and the network they are of."""
    smaller, width = dict(state), config.head_dim
    for block, heads in kept.items():
        side, _, rest = block.partition(".")
        rows = (np.array(heads)[:, None] * width + np.arange(width)).ravel()
        query, out = (f"{side}.layers.{rest}.{name}.weight" for name in ("query", "out"))
        smaller[query], smaller[out] = state[query][rows], np.ascontiguousarray(state[out][:, rows])
    counts = {block: len(heads) for block, heads in kept.items() if len(heads) < config.heads}
    return smaller, from_dict(NetworkConfig, {**to_dict(config), "head_counts": counts})


@torch.no_grad()
def mean_loss(network: Transformer, batches: Sequence[Batch]) -> float:
    """Nats per token of the batches, in float32."""
    nats = sum(_loss(network, batch).item() for batch in batches)
    return nats / sum(batch.target_tokens for batch in batches)


def _loss(network: Transformer, batch: Batch) -> Tensor:
    """The summed cross-entropy of a batch in nats."""
    features = network.features(batch.source, batch.inputs).flatten(0, 1)[batch.places]
    return linear_cross_entropy(features, network.embedding.weight, batch.labels)


def _attentions(network: Transformer) -> Iterator[tuple[str, Attention]]:
    """Every block of attention by its name in ``head_counts``."""
    for name, part in network.named_modules():
        if isinstance(part, Attention):
            yield name.replace(".layers.", "."), part


def _network(state: Weights, config: NetworkConfig, tokenizer: Tokenizer) -> Transformer:
    return Transformer.from_weights(config, tokenizer.vocab_size, state).requires_grad_(False)


def _training(info: dict[str, Any], steps: int, given: dict[str, Any]) -> TrainingConfig:
    """The settings of the training afterwards: those before, at lower rates, and what is given."""
    before = from_dict(TrainingConfig, info.get("config", {}))
    rates = {name: RETRAIN_RATE * getattr(before, name) for name in ("muon_lr", "adam_lr")}
    return from_dict(TrainingConfig, {**to_dict(before), **rates, "steps": max(1, steps), **given})


def parser() -> Parser:
    """From what, by which text, and every setting of what follows."""
    made = Parser("model.pruning", __doc__)
    made.add_argument("checkpoint", type=Path, help="folder made by python -m model.training")
    made.add_argument("corpus", type=Path, help="folder made by python -m model.corpus")
    made.add_argument("--holdout", default="", help="folder with the valid split, where that is one of its own")
    made.add_argument("--out", type=Path, required=True, help="folder of the checkpoint with fewer heads")
    made.add_settings(PruningSettings)
    made.add_settings(TrainingConfig, "training afterwards, where it differs from before", leave_out=["steps"])
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Prune, and print what it has cost."""
    options = parser().parse_args(argv)
    settings = read_settings(PruningSettings, options)
    training = {name: value for name, value in vars(options).items() if name in TrainingConfig.model_fields}
    told = prune(options.checkpoint, options.corpus, options.out, settings, options.holdout, training)["pruning"]
    for block, heads in told["kept"].items():
        of = len(told["importance"][block])
        print(f"{block}: {len(heads)} of {of} heads" + ("" if len(heads) == of else f", {', '.join(map(str, heads))}"))
    for name in ("heads", "parameters"):
        print(f"{name}: {told[name]['before']:,} before, {told[name]['after']:,} now")
    losses = told["valid_loss"]
    print(f"validation loss, nats per token: {losses['before']:.4f} before, {losses['after']:.4f} without those heads")
    if "retrained" in losses:
        print(f"after {settings.retrain} steps of training: {losses['retrained']:.4f}")
    print(f"{options.out / WEIGHTS}: {(options.out / WEIGHTS).stat().st_size:,} bytes")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
