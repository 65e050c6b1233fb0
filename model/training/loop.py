"""The training loop: one function from a corpus and a tokenizer to a checkpoint.

It resumes by itself when its output folder holds the state of an interrupted run with the same settings, and a seed
gives one and the same run on a CPU whether it was interrupted or not.
"""

import contextlib
import ctypes
import dataclasses
import itertools
import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.config import NetworkConfig, TrainingConfig, to_dict
from model.errors import ProjectError
from model.files import write_json, write_text
from model.network import Transformer, count_parameters
from model.processors import available_cpus
from model.progress import Progress
from model.row_counts import RowCount, sentence
from model.tokenizer import Tokenizer, load_tokenizer
from model.training.batches import Batch, Examples
from model.training.checkpoint import INFO, forget_last, load_last, save_last, save_weights
from model.training.loss import linear_cross_entropy
from model.training.optimizer import build_optimizers, learning_rate, set_learning_rate
from model.training.tracking import CURVE, tracked

TRIM_STEPS = 20
CURVE_POINTS = 200  # training points kept in the curve, whatever the number of steps


class TrainingError(ProjectError, RuntimeError):
    """Training cannot go on; the message says why and what to change."""


def train(
    corpus: str | Path, tokenizer: str | Path, out: str | Path, network: NetworkConfig, config: TrainingConfig
) -> dict[str, Any]:
    """Train a network from scratch (or resume) and return what is written to ``training.json``.

    Args:
        corpus: folder written by :func:`model.corpus.prepare_corpus`.
        tokenizer: folder written by :func:`model.tokenizer.train.train_tokenizer`.
        out: folder for ``model.safetensors`` (best weights), ``training.json`` and ``curves.jsonl``.

    Raises:
        TrainingError: when the loss is no longer a number, or a GPU was demanded and none works.
        ExamplesError: when the corpus has nothing that this network can learn from.
        CheckpointError: when ``out`` holds the state of a run with other settings.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads or available_cpus())
    torch.manual_seed(config.seed)
    tokens = load_tokenizer(tokenizer)
    examples = Examples(corpus, tokens, network, config)
    trainer, card = Trainer(examples, out), examples.card
    print(
        f"training {count_parameters(trainer.network):,} parameters ({network.family}) on {trainer.device}, "
        f"{trainer.precision}, {config.steps} steps of {config.grad_accum_steps} x {config.batch_tokens} tokens",
        flush=True,
    )
    row_counts = trainer.fit(
        identity={
            "network": to_dict(network),
            "training": to_dict(config),
            "tokenizer": tokens.content_hash(),
            "corpus": [shard["sha256"] for shard in card["shards"]],
        }
    )
    print(sentence(row_counts), flush=True)
    state = trainer.state
    info = {
        "network": to_dict(network),
        "config": to_dict(config),
        "vocab_size": tokens.vocab_size,
        "task": examples.task,
        "languages": examples.languages,
        "authors": card.get("authors", []),
        "parameters": count_parameters(trainer.network),
        "steps": state.step,
        "best_step": state.best_step,
        "train_loss": state.train_loss,
        "valid_loss": state.best_loss,
        "last_valid_loss": state.valid_loss,
        "train_tokens": state.tokens,
        "target_tokens": state.target_tokens,
        "seconds": round(state.seconds, 2),
        "tokens_per_second": round(state.tokens / max(1e-9, state.seconds), 1),
        "row_counts": row_counts,
        "device": str(trainer.device),
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seed": config.seed,
    }
    write_json(out / INFO, info)
    forget_last(out)
    return info


@dataclass
class TrainState:
    """Where a run is; plain numbers, stored with every checkpoint. Losses are in nats per token."""

    step: int = 0
    tokens: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    train_loss: float = math.nan
    valid_loss: float = math.nan
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0  # validations since the best one


class Trainer:
    """One run: a new network, its optimisers, and where it is."""

    def __init__(self, examples: Examples, out: Path) -> None:
        self.examples, self.config, self.out = examples, examples.config, out
        self.device = choose_device(self.config)
        self.dtype = choose_precision(self.config, self.device)
        self.precision = str(self.dtype).removeprefix("torch.")
        self.network = Transformer(examples.network, examples.tokenizer.vocab_size).to(self.device)
        self.optimizers = build_optimizers(self.network, self.config)
        # Only float16 needs its gradients scaled; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.state = TrainState()
        self.curve: list[dict[str, float]] = []

    def fit(self, identity: dict[str, Any]) -> list[RowCount]:
        """Train to the end of the schedule, resuming where there is something to resume; what became of the rows."""
        if saved := load_last(self.out, self.network, self.optimizers, identity):
            self.state, self.curve = TrainState(**saved["state"]), saved["curve"]
            print(f"resuming after step {self.state.step}, {self.state.seconds:.0f} s into the run", flush=True)
        self._record()  # an older run's curve is not this one's
        valid = self.examples.valid_batches()
        with tracked(f"{self.examples.network.family}-seed{self.config.seed}", identity, self.out):
            self._loop(identity, valid)
        return self.examples.row_counts(valid)

    def _loop(self, identity: dict[str, Any], valid: list[Batch]) -> None:
        config, state = self.config, self.state
        # The stream is a pure function of the seed: skipping what was seen is an exact resume.
        batches = itertools.islice(self.examples.train_batches(), state.step * config.grad_accum_steps, None)
        every = max(1, config.steps // CURVE_POINTS)
        recent: list[float] = []
        began, first = time.perf_counter() - state.seconds, dataclasses.replace(state)
        progress = Progress("training", config.steps - first.step, every=10.0)
        while state.step < config.steps:
            rate = learning_rate(state.step, config)
            recent.append(self.update(list(itertools.islice(batches, config.grad_accum_steps)), rate))
            state.step += 1
            state.seconds = time.perf_counter() - began
            last = state.step == config.steps
            speed = (state.tokens - first.tokens) / max(1e-9, state.seconds - first.seconds)
            progress.advance(1, f"step {state.step}/{config.steps}, loss {recent[-1]:.3f}, {speed:,.0f} tokens/s")
            if state.step % every == 0 or last:
                state.train_loss = sum(recent) / len(recent)
                recent.clear()
                self._record(loss=state.train_loss, lr=rate, tokens_per_second=speed)
            if (state.step % config.eval_every == 0 or last) and not self._improves(valid):
                print(f"stopping early: no improvement in {config.patience} validations", flush=True)
                return
            if state.step % TRIM_STEPS == 0 and self.device.type == "cpu":
                _return_free_memory()
            if state.step % config.save_every == 0 and not last:
                saved = {"identity": identity, "state": dataclasses.asdict(state), "curve": self.curve}
                save_last(self.out, self.network, self.optimizers, saved)

    def update(self, batches: list[Batch], rate: float) -> float:
        """One optimiser step over micro-batches weighted by their tokens; returns the loss in nats per token."""
        self.network.train()
        set_learning_rate(self.optimizers, rate)
        tokens = sum(batch.target_tokens for batch in batches)
        total = 0.0
        for batch in batches:
            loss = self.loss(batch, self.config.label_smoothing) / tokens
            self.scaler.scale(loss).backward()
            total += loss.item()
            self.state.tokens += batch.tokens
        self.state.target_tokens += tokens
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss became {total} at step {self.state.step + 1}: lower training.muon_lr and training.adam_lr, "
                "set training.grad_clip (1.0 is usual), or train with training.precision=fp32"
            )
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return total

    def loss(self, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Summed cross-entropy of a batch in nats, a float32 scalar."""
        batch = batch.to(self.device)
        # Only positions that carry a loss reach the vocabulary, the widest matrix there is.
        chosen = batch.labels != Tokenizer.pad_id
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            features = self.network.features(batch.source, batch.inputs)[chosen].to(self.dtype)
            return linear_cross_entropy(features, self.network.embedding.weight, batch.labels[chosen], smoothing)

    @torch.no_grad()
    def _improves(self, valid: list[Batch]) -> bool:
        """Validate, keep the best weights; false when patience has run out."""
        state = self.state
        self.network.eval()
        total = sum(self.loss(batch).item() for batch in valid)
        state.valid_loss = total / max(1, sum(batch.target_tokens for batch in valid))
        self._record(valid_loss=state.valid_loss)
        state.stale += 1
        if state.valid_loss < state.best_loss:
            state.best_loss, state.best_step, state.stale = state.valid_loss, state.step, 0
            save_weights(self.network, self.out)
        print(
            f"training: step {state.step}/{self.config.steps}, validation loss {state.valid_loss:.4f} "
            f"(best {state.best_loss:.4f})",
            flush=True,
        )
        return not self.config.patience or state.stale < self.config.patience

    def _record(self, **values: float) -> None:
        """Add a point to the curve, if there are values, and write it."""
        state = self.state
        point = {"step": state.step, "tokens": state.tokens, "seconds": round(state.seconds, 2), **values}
        self.curve += [point] if values else []
        write_text(self.out / CURVE, "".join(json.dumps(point) + "\n" for point in self.curve))


def choose_device(config: TrainingConfig) -> torch.device:
    """The configured device, after a real operation on it: a listed GPU is not always a working one."""
    if config.device == "cpu":
        return torch.device("cpu")
    try:
        (torch.ones(8, device="cuda") @ torch.ones(8, device="cuda")).item()
        return torch.device("cuda")
    except (RuntimeError, AssertionError) as error:
        if config.device == "cuda":
            raise TrainingError(
                f"training.device=cuda was demanded and no GPU works ({str(error).splitlines()[0]}): "
                "use training.device=auto to train on the CPU"
            ) from None
        return torch.device("cpu")


def choose_precision(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """The configured precision; ``auto`` is bfloat16 where the hardware multiplies it natively, else float32."""
    if config.precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _return_free_memory() -> None:
    """Give freed heap pages back to the system, where the C library is glibc.

    Batches of ever new shapes leave its heap full of holes: without this a run of 8.9 M parameters grew from 3 to 9 GB
    in half an hour; with it, it stays below 4.2 GB and takes 1.5 % longer.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
