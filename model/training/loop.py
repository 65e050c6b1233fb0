"""The training loop: one function from a corpus and a tokenizer to a checkpoint.

It resumes by itself when its output folder holds the state of an interrupted run with the same settings, and a seed
gives one and the same run on a CPU whether it was interrupted or not. With a ``checkpoint_uri`` it does so on another
machine, too. Several processes share the work of each step (:mod:`model.training.ranks`).
"""

import contextlib
import dataclasses
import itertools
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor

from model.config import NetworkConfig, TrainingConfig, fit_warmup, to_dict
from model.files import write_text
from model.network import Transformer, count_parameters
from model.processors import available_cpus
from model.progress import Progress
from model.row_counts import RowCount, sentence
from model.tokenizer import load_tokenizer
from model.training.batches import Batch, Examples
from model.training.checkpoint import INFO, WEIGHTS, finish, save_weights
from model.training.compiling import compile_layers, pays
from model.training.device import TrainingError, choose_device, choose_precision, return_free_memory
from model.training.draws import Draws
from model.training.ending import end, heeding_signals
from model.training.loss import linear_cross_entropy
from model.training.optimizer import build_optimizers, learning_rate, set_learning_rate
from model.training.origin import open_origin
from model.training.plan import Pace, Plan, make_plan, must_hold, peak_memory
from model.training.ranks import ALONE, Ranks, joined
from model.training.remote import RemoteCheckpoints
from model.training.saved import TrainState, forget, restore, save, set_state, state_of, tidy
from model.training.tracking import CURVE, chosen, known, tracked
from model.training.translating import chrf

TRIM_STEPS = 20
HARMLESS = ("save_every", "activations")  # settings that change no weight
CURVE_POINTS = 200  # training points kept in the curve, whatever the number of steps


def train(
    corpus: str | Path,
    holdout: str | Path,
    tokenizer: str | Path,
    out: str | Path,
    network: NetworkConfig,
    config: TrainingConfig,
    checkpoint_uri: str = "",
    init_from: str = "",
) -> dict[str, Any]:
    """Train a network (or resume) and return what is written to ``training.json``.

    Of several processes the first one writes and returns it; the others return nothing.

    Args:
        corpus: folder written by :func:`model.corpus.prepare_corpus`, for its train split.
        holdout: the folder that it wrote the valid split to, which may be the same.
        tokenizer: folder written by :func:`model.tokenizer.train.train_tokenizer`.
        out: folder for ``model.safetensors`` (best weights), ``training.json`` and ``curves.jsonl``.
        checkpoint_uri: folder or fsspec address that keeps checkpoints beyond this machine, from which a new call with
            the same inputs goes on; empty: none are kept but in ``out``.
        init_from: weights to begin with (:mod:`model.training.origin`), of the same tokenizer; empty: random ones.

    Raises:
        TrackingError: when ``PROMETHEUS_TRACKING`` names no tracker that there is.
        TrainingError: when the loss is no longer a number, or a GPU was demanded and none works.
        Terminated, KeyboardInterrupt: when asked to end by a signal, after what there is has been saved.
        PlanError: when it does not fit into the memory that there is.
        ExamplesError: when the corpus has nothing that this network can learn from.
        CheckpointError: when ``out`` holds the state of a run with other settings, ``checkpoint_uri`` is of no use, or
            ``init_from`` does not fit.
        RanksError: when processes that were started together cannot train together, or one of them has ended.
    """
    chosen()  # a tracker that there is not is told of at once
    tokenizer, out = Path(tokenizer), Path(out)
    with joined(config.grad_accum_steps) as ranks:
        out.mkdir(parents=True, exist_ok=True)
        config, fitted = fit_warmup(config)
        torch.set_num_threads(config.threads or max(1, available_cpus() // ranks.beside))
        torch.manual_seed(config.seed)
        tokens = load_tokenizer(tokenizer)
        examples = Examples(corpus, tokens, network, config, holdout, work=out)
        identity = {
            "network": to_dict(network),
            "training": {key: value for key, value in to_dict(config).items() if key not in HARMLESS},
            "tokenizer": tokens.content_hash(),
            "corpus": [shard["sha256"] for shard in examples.card["shards"]],
            "holdout": examples.valid_hash(),
        }
        trainer, card = Trainer(examples, out, ranks), examples.card
        taught = card.get("distillation", {})
        if origin := open_origin(init_from, network) if init_from and ranks.first else None:
            origin.load_into(trainer.network, tokens)
        if init_from:
            identity["init_from"] = origin.sha256 if origin else ""  # only the first process needs to know
        remote = RemoteCheckpoints(checkpoint_uri, identity) if checkpoint_uri and ranks.first else None
        if fitted:
            print(fitted, flush=True)
        together = f" in {ranks.size} processes" if ranks.size > 1 else ""
        print(
            f"training {count_parameters(trainer.network):,} parameters ({network.family}) on {trainer.device}, "
            f"{trainer.precision}{together}, {config.steps} steps of {config.grad_accum_steps} x {config.batch_tokens} "
            "tokens",
            flush=True,
        )
        row_counts = trainer.fit(identity, remote)
        if not ranks.first:
            if ranks.local == 0:
                examples.forget()
            return {}
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
            **({"valid_chrf": state.best_chrf} if config.best == "chrf" else {}),
            "train_tokens": state.tokens,
            "target_tokens": state.target_tokens,
            "seconds": round(state.seconds, 2),
            "tokens_per_second": round(state.tokens / max(1e-9, state.seconds), 1),
            **trainer.took(),
            "row_counts": [*taught.get("row_counts", []), *row_counts],
            "device": str(trainer.device),
            "precision": trainer.precision,
            "compiled": trainer.compiled,
            "processes": ranks.size,
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "seed": config.seed,
            **({"init_from": origin.told()} if origin else {}),
            **({"distillation": {k: v for k, v in taught.items() if k != "row_counts"}} if taught else {}),
        }
        info = finish(out, info, tokens, tokenizer)
        forget(out)
        examples.forget()
        return info


class Trainer:
    """One run: a new network, its optimisers, and where it is; and who trains it together."""

    def __init__(self, examples: Examples, out: Path, ranks: Ranks = ALONE) -> None:
        self.examples, self.config, self.out, self.ranks = examples, examples.config, out, ranks
        self.device = choose_device(self.config, ranks)
        self.dtype = choose_precision(self.config, self.device)
        self.precision = str(self.dtype).removeprefix("torch.")
        must_hold(examples.network, examples.tokenizer.vocab_size, self.device)
        self.network = Transformer(examples.network, examples.tokenizer.vocab_size).to(self.device)
        if self.config.activations == "recomputed":
            self.network.recompute_activations()
        self.optimizers = build_optimizers(self.network, self.config)
        # Only float16 needs its gradients scaled; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self._draws = Draws(self.config.seed)
        self.state = TrainState()
        self.curve: list[dict[str, float]] = []
        self.plan: Plan | None = None
        self._took: dict[str, Any] = {"plan": {}}  # of the process before, where it left nothing to train
        self.pace = Pace(self.config.steps)
        self.recent: list[float] = []  # losses of the steps since the curve's last point
        self.compiled = False
        self._translated: list[Batch] = []  # what tells the best weights by chrF

    def fit(self, identity: dict[str, Any], remote: RemoteCheckpoints | None = None) -> list[RowCount]:
        """Train to the end of the schedule, resuming where there is something to resume; what became of the rows."""
        saved = self._shared(self._restored(identity, remote) if self.ranks.first else None)
        if saved:
            self.state, self.curve, self.recent = TrainState(**saved["state"]), saved["curve"], saved["recent"]
            if saved["scaler"]:
                self.scaler.load_state_dict(saved["scaler"])
            self._took = saved.get("took", self._took)
        self._record()  # an older run's curve is not this one's
        if saved and "row_counts" in saved:  # it was killed between its last step and its results
            return saved["row_counts"]
        valid = self.examples.valid_batches()
        if self.config.best == "chrf":
            self._translated = self.examples.valid_batches(self.config.chrf_rows)
        for here in self.ranks.turns():
            if here:
                self.examples.tokenise()
        self.plan = make_plan(self.examples, self.network, self.optimizers, self.loss, self.device)
        print(self.plan, flush=True)
        self._compile()
        name = f"{self.examples.network.family}-seed{self.config.seed}"
        begun = saved.get("tracking", {}) if saved else {}
        with heeding_signals() as asked, contextlib.ExitStack() as beside:
            figures = beside.enter_context(tracked(name, identity, self.out, begun)) if self.ranks.first else {}
            self._loop(identity, valid, remote, asked)
            figures.update(dataclasses.asdict(self.state))
        row_counts = self.examples.row_counts(valid) if self.ranks.first else []
        if remote:
            self._save(identity, row_counts=row_counts)
            remote.save(self.out, self.state.step, wait=True)
        return row_counts

    def _compile(self) -> None:
        """Compile the layers where that pays; the time counts."""
        config, parameters = self.config, count_parameters(self.network)
        tokens = 2 * config.steps * config.grad_accum_steps * config.batch_tokens
        if pays(config.compile, parameters, tokens, self.device):
            seconds = compile_layers(self.network, self.loss)
            self.compiled, self.state.seconds = seconds > 0, self.state.seconds + seconds

    def took(self) -> dict[str, Any]:
        """For ``training.json``: the plan, with the seconds that it told, and the most memory that was held."""
        if not self.plan:
            return {"peak_memory": peak_memory(self.device), **self._took}
        return {
            "plan": {**self.plan.told(), "seconds": self.pace.seconds},
            "peak_memory": peak_memory(self.device),
        }

    def _restored(self, identity: dict[str, Any], remote: RemoteCheckpoints | None) -> dict[str, Any] | None:
        """The progress of the run that goes on, whose state is put in place; None for a new one."""
        tidy(self.out)
        saved, fetched = restore(self.out, self.network, self.optimizers, identity), ""
        (self.out / INFO).unlink(missing_ok=True)  # of a run that ended here before, whose weights are going to go
        if not saved and remote and (fetched := remote.fetch(self.out)):
            saved = restore(self.out, self.network, self.optimizers, identity)
        if saved:
            state, source = TrainState(**saved["state"]), f" from {fetched}" if fetched else ""
            print(f"resuming after step {state.step}, {state.seconds:.0f} s into the run{source}", flush=True)
        else:
            (self.out / WEIGHTS).unlink(missing_ok=True)
        return saved

    def _shared(self, saved: dict[str, Any] | None) -> dict[str, Any] | None:
        """The first process's progress and state, those of all from here on."""
        if self.ranks.size == 1:
            return saved
        tensors = safetensors.load(self.ranks.share(safetensors.save(state_of(self.network, self.optimizers))))
        if not self.ranks.first:
            set_state(tensors, self.network, self.optimizers)
        return json.loads(self.ranks.share(json.dumps(saved).encode()))

    def _save(self, identity: dict[str, Any], **more: Any) -> None:
        progress = {"state": dataclasses.asdict(self.state), "curve": self.curve, "recent": self.recent, **more}
        progress |= {"identity": identity, "scaler": self.scaler.state_dict(), "tracking": known(self.out)}
        progress["took"] = self.took()
        save(self.out, self.state.step, self.network, self.optimizers, progress)

    def _loop(
        self, identity: dict[str, Any], valid: list[Batch], remote: RemoteCheckpoints | None, asked: Callable[[], int]
    ) -> None:
        config, state, recent = self.config, self.state, self.recent
        # The stream is a pure function of the seed and the batch's number: an exact resume begins at its own.
        first_batch, own = state.step * config.grad_accum_steps, config.grad_accum_steps // self.ranks.size
        batches = self.examples.train_batches(first_batch, pin=self.device.type == "cuda", ranks=self.ranks)
        every = max(1, config.steps // CURVE_POINTS)
        began, first = time.perf_counter() - state.seconds, dataclasses.replace(state)
        progress = Progress("training", config.steps - first.step, every=10.0)
        if "init_from" in identity and not state.step:
            self._improves(valid)  # what it begins with may stay the best
        while state.step < config.steps:
            rate = learning_rate(state.step, config)
            recent.append(self.update(list(itertools.islice(batches, own)), rate))
            state.step += 1
            state.seconds = time.perf_counter() - began
            self.pace.stepped(state.step, state.seconds)
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
                return_free_memory()
            signal = self.ranks.any(asked())
            if (signal or state.step % config.save_every == 0) and not last:
                if self.ranks.first:
                    self._save(identity)
                if remote:
                    remote.save(self.out, state.step, wait=bool(signal))
                if signal:
                    self.ranks.wait()  # the first process that ends has all others ended
                    end(signal, f"asked to end after step {state.step}, whose state is kept to go on from")

    def update(self, batches: list[Batch], rate: float) -> float:
        """One optimiser step over micro-batches weighted by their tokens; returns the loss in nats per token.

        Of several processes each has its own micro-batches, and all return the loss of all. A GPU is waited for once.
        """
        self.network.train()
        set_learning_rate(self.optimizers, rate)
        tokens = sum(batch.target_tokens for batch in batches)
        loss = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            self._draw_anew(number)
            part = self.loss(batch, self.config.label_smoothing) / tokens
            self.scaler.scale(part).backward()
            loss += part.detach()
        total, target, both = self.ranks.mean(self.network, loss, tokens, sum(batch.tokens for batch in batches))
        self.state.target_tokens += int(target)
        self.state.tokens += int(both)
        if not math.isfinite(total):
            raise TrainingError(_diverged("loss", total, self.state.step + 1))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return total

    def _draw_anew(self, number: int) -> None:
        """Have dropout draw for a micro-batch of this step by its number in the run, whichever process it is in."""
        if self.examples.network.dropout:
            place = self.state.step * self.config.grad_accum_steps + self.ranks.rank + number * self.ranks.size
            torch.manual_seed(int(self._draws.bits("dropout", 0, np.array([place]))[0]))

    def loss(self, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Summed cross-entropy of a batch in nats, a float32 scalar."""
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            features = self.network.features(batch.source, batch.inputs).flatten(0, 1)
            # Only positions that carry a loss reach the vocabulary, the widest matrix there is.
            chosen = features.index_select(0, batch.places).to(self.dtype)
            return linear_cross_entropy(chosen, self.network.embedding.weight, batch.labels, smoothing)

    @torch.no_grad()
    @torch.compiler.set_stance(
        "force_eager"
    )  # validation would be compiled for itself, and takes a hundredth of the time
    def _improves(self, valid: list[Batch]) -> bool:
        """Validate, keep the best weights; false when patience has run out."""
        state = self.state
        self.network.eval()
        own = valid[self.ranks.rank :: self.ranks.size]
        with self._eager():
            (total,) = self.ranks.sum(sum(map(self.loss, own), torch.zeros((), dtype=torch.float64)).item())
        state.valid_loss = total / max(1, sum(batch.target_tokens for batch in valid))
        if not math.isfinite(state.valid_loss):
            raise TrainingError(_diverged("validation loss", state.valid_loss, state.step))
        found, told = {"valid_loss": state.valid_loss}, f"validation loss {state.valid_loss:.4f}"
        better, score = state.valid_loss < state.best_loss, -1.0
        if self._translated:
            score = found["valid_chrf"] = self._chrf()
            better, told = score > state.best_chrf, f"{told}, chrF {score:.2f}"
        self._record(**found)
        state.stale += 1
        if better:
            state.best_loss, state.best_chrf, state.best_step, state.stale = state.valid_loss, score, state.step, 0
            if self.ranks.first:
                save_weights(self.network, self.out)
        best = f"{state.best_chrf:.2f}" if self._translated else f"{state.best_loss:.4f}"
        print(f"training: step {state.step}/{self.config.steps}, {told} (best {best})", flush=True)
        return not self.config.patience or state.stale < self.config.patience

    def _eager(self) -> contextlib.AbstractContextManager[Any]:
        """Validation is not worth compiling, which it would be for itself."""
        return torch.compiler.set_stance("force_eager") if self.compiled else contextlib.nullcontext()

    def _chrf(self) -> float:
        """chrF on the rows that are translated at each validation; the first process translates them for all."""
        score = 0.0
        if self.ranks.first:
            with self._eager(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                score = chrf(self.network, self.examples.tokenizer, self._translated)
        (score,) = self.ranks.sum(score)
        return score

    def _record(self, **values: float) -> None:
        """Add a point to the curve, if there are values, and write it."""
        state = self.state
        point = {"step": state.step, "tokens": state.tokens, "seconds": round(state.seconds, 2), **values}
        self.curve += [point] if values else []
        if self.ranks.first:
            write_text(self.out / CURVE, "".join(json.dumps(point) + "\n" for point in self.curve))


def _diverged(what: str, value: float, step: int) -> str:
    return (
        f"the {what} became {value} at step {step}: lower training.muon_lr and training.adam_lr, set "
        "training.grad_clip (1.0 is usual), or train with training.precision=fp32"
    )
