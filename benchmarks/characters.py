"""A decoder of characters beside nanoGPT's recipe for a CPU: the same text, tokens and, to a tenth, parameters.

Ours is profile `gpt` through the product's own corpus, tokenizer and training. The other is made of PyTorch's parts in
nanoGPT's manner, and trained as its README says for a laptop: 4 layers 128 wide, 12 random windows of 64 characters a
step, 2,000 steps, AdamW at 1e-3 with a cosine to a tenth, no dropout. Both train on the first nine tenths of the file
and never see the last one, over which the loss is taken, character by character as it lies in the file: in windows that
follow one another, each as long as a model's context. One seed; both run in turn, on all processors.

    python -m benchmarks.characters tiny_shakespeare.txt
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import RESULTS, BenchmarkError, heading, keep, markdown
from evaluation.figures import processor
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, setting

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]

HELD_OUT = 0.1
WINDOW, WINDOWS, RATE, WARMUP = 64, 12, 1e-3, 100  # nanoGPT's README, "baby GPT on a MacBook"
FEED_FORWARD = 576  # what brings ours down to the other's parameters

Json = dict[str, Any]


class CharactersSettings(Settings):
    """How long both train."""

    steps: Count = setting(2000, "Steps of the other; ours takes as many characters.")
    batch_tokens: Count = setting(1024, "Characters in a step of ours.")
    positions: Count = setting(256, "Context of ours, in characters.")
    muon_lr: float = setting(0.02, "Peak learning rate of ours for matrices.", gt=0)
    adam_lr: float = setting(3e-3, "Peak learning rate of ours for the rest.", gt=0)


def loss(forward: "Forward", ids: "torch.Tensor", window: int) -> float:
    """Mean loss of a text's ids i64 [N] but for the first, in nats, read in windows that follow one another.

    Args:
        forward: ids i64 [B, S] -> logits [B, S, V].
    """
    import torch
    import torch.nn.functional as F

    total, count = 0.0, len(ids) - 1
    with torch.inference_mode():
        for begin in range(0, count, window * 64):
            part = ids[begin : min(begin + window * 64, count) + 1]
            whole = (len(part) - 1) // window * window
            for inputs, labels in ((part[:whole], part[1 : whole + 1]), (part[whole:-1], part[whole + 1 :])):
                if len(inputs):
                    rows = inputs.view(-1, min(window, len(inputs)))
                    total += F.cross_entropy(forward(rows).flatten(0, 1), labels, reduction="sum").item()
    return total / count


def ours(path: Path, held_out: str, given: CharactersSettings, folder: Path) -> Json:
    """What the product makes of the file."""
    import torch

    from model.config import Profile, from_dict, to_dict
    from model.corpus import prepare_corpus
    from model.network import Transformer
    from model.tokenizer import load_tokenizer
    from model.tokenizer.train import train_tokenizer
    from model.training.checkpoint import load_checkpoint
    from model.training.loop import train
    from pipelines.request import load_profile

    told = to_dict(load_profile("gpt"))
    told["corpus"] |= {"held_out_end": HELD_OUT, "leaks": "exact", "duplicates": "exact"}
    told["network"] |= {"max_positions": given.positions, "d_ff": FEED_FORWARD}
    told["training"] |= {"batch_tokens": given.batch_tokens, "muon_lr": given.muon_lr, "adam_lr": given.adam_lr}
    told["training"]["steps"] = given.steps * WINDOW * WINDOWS // given.batch_tokens
    told["training"]["eval_every"] = max(1, told["training"]["steps"] // 8)
    profile = from_dict(Profile, told)
    prepare_corpus([str(path)], [], folder / "corpus", profile.corpus)
    train_tokenizer(folder / "corpus", folder / "tokenizer", profile.tokenizer)
    info = train(
        folder / "corpus", folder / "corpus", folder / "tokenizer", folder / "out", profile.network, profile.training
    )
    tokenizer = load_tokenizer(folder / "tokenizer")
    ids = tokenizer.encode(held_out)
    if tokenizer.decode(ids) != held_out:
        raise BenchmarkError(f"{path}: the tokenizer does not give its end back, character by character")
    network = Transformer.from_weights(profile.network, tokenizer.vocab_size, load_checkpoint(folder / "out")[0])
    characters = len(held_out) - 1
    found = loss(lambda rows: network(None, rows), torch.tensor(ids), given.positions) * (len(ids) - 1) / characters
    return {
        "model": "ours",
        "parameters": info["parameters"],
        "characters": info["train_tokens"],
        "steps": info["steps"],
        "seconds": info["seconds"],
        "precision": info["precision"],
        "settings": {"network": to_dict(profile.network), "training": to_dict(profile.training)},
        "loss": round(found, 4),
    }


def theirs(train_on: str, held_out: str, given: CharactersSettings) -> Json:
    """What nanoGPT's recipe makes of the characters, in float32."""
    import torch
    import torch.nn.functional as F

    from benchmarks.baselines import Decoder
    from model.config import NetworkConfig
    from model.network import count_parameters

    numbers = {character: number for number, character in enumerate(sorted({*train_on, *held_out}))}
    data, rest = (torch.tensor([numbers[character] for character in text]) for text in (train_on, held_out))
    torch.manual_seed(0)
    config = NetworkConfig(family="decoder", d_model=128, decoder_layers=4, max_positions=WINDOW)
    network = Decoder(config, len(numbers))
    matrices = [weight for weight in network.parameters() if weight.dim() > 1]
    others = [weight for weight in network.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    began, places = time.perf_counter(), torch.arange(WINDOW)
    for step in range(given.steps):
        fallen = 0.5 * (1 + math.cos(math.pi * max(0, step - WARMUP) / max(1, given.steps - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / WARMUP, 0.1 + 0.9 * fallen)
        starts = torch.randint(len(data) - WINDOW, (WINDOWS, 1))
        logits = network(None, data[starts + places])
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.flatten(0, 1), data[starts + places + 1].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - began
    return {
        "model": "nanoGPT's recipe",
        "parameters": count_parameters(network),
        "characters": given.steps * WINDOW * WINDOWS,
        "steps": given.steps,
        "seconds": round(seconds, 2),
        "precision": "float32",
        "loss": round(loss(lambda rows: network(None, rows), rest, WINDOW), 4),
    }


def characters_table(result: Json) -> str:
    """Markdown: one line per model."""
    rows = [
        [
            record["model"],
            f"{record['parameters'] / 1e6:.2f}",
            f"{record['characters'] / 1e6:.2f}",
            f"{record['steps']:,}",
            f"{record['seconds']:.0f}",
            f"**{record['loss']:.3f}**",
        ]
        for record in result["records"]
    ]
    head = ["", "M parameters", "M characters trained on", "steps", "seconds", "held-out loss, nats/character"]
    return (
        f"{markdown(head, rows)}\n\n{result['text']}, the last {result['held_out']:,} characters held out; ours in "
        f"{result['records'][0]['precision']}, the other in {result['records'][1]['precision']}. PyTorch "
        f"{result['torch']}. {processor(result['machine'])}, {result['date'][:10]}."
    )


def parser() -> Parser:
    """Which text, and for how long."""
    made = Parser("benchmarks.characters", __doc__)
    made.add_argument("text", type=Path, help="a plain text file, of which the end is held out")
    made.add_argument("--out", type=Path, default=RESULTS / "characters.json", help="where the result is kept")
    made.add_settings(CharactersSettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train both, and measure."""
    options = parser().parse_args(argv)
    given = read_settings(CharactersSettings, options)
    import torch

    from model.processors import available_cpus

    torch.set_num_threads(available_cpus())
    text = options.text.read_text("utf-8")
    train_on, held_out = text[: int(len(text) * (1 - HELD_OUT))], text[int(len(text) * (1 - HELD_OUT)) :]
    with tempfile.TemporaryDirectory(prefix="characters-") as folder:
        records = [ours(options.text, held_out, given, Path(folder)), theirs(train_on, held_out, given)]
    result = {
        **heading("characters"),
        "torch": torch.__version__,
        "text": options.text.name,
        "held_out": len(held_out),
        "records": records,
    }
    keep(result, options.out, characters_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
