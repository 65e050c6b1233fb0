"""Several processes train what one trains: real ones, over gloo, on this machine and as on two."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model.config import ConfigError, Profile, TrainingConfig, from_dict, to_dict
from model.options import OK, run
from model.training.checkpoint import load_checkpoint
from model.training.launch import processes, train_together
from model.training.loop import Trainer, train
from model.training.ranks import Ranks, RanksError, joined, started
from model.training.saved import kept
from tests.helpers.training import CONFIG, NETWORK, assert_same, curve, weights

# Dropout, for it has to draw the same for a micro-batch whichever process that is in.
DROPPING = NETWORK.model_copy(update={"dropout": 0.1})
SHARED = CONFIG.model_copy(update={"batch_tokens": 128, "grad_accum_steps": 2, "precision": "fp32"})
# Muon's products are float32 on every processor then, and sums in another order no more than that.
ENVIRONMENT = {"PROMETHEUS_TRACKING": "off", "OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def context() -> multiprocessing.context.ForkServerContext:
    """New processes that have imported torch already."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.model.test_training_ranks"])
    return made


def _train(
    parallel: tuple[Path, Path], out: Path, config: TrainingConfig, told: dict[str, int], kill: tuple[int, int]
) -> None:
    """In a process of its own: train together, and after so many steps get a signal, where there is one."""
    os.environ.update(ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in told.items()})
    out.mkdir(exist_ok=True, parents=True)
    for number in (1, 2):
        os.dup2(os.open(out.parent / f"said-{told['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    update, (steps, signal_number) = Trainer.update, kill

    def counted(self: Trainer, *given: Any) -> float:
        if self.state.step == steps and signal_number:
            os.kill(os.getpid(), signal_number)
        return update(self, *given)

    Trainer.update = counted  # type: ignore[method-assign]

    def trained() -> int:
        train(parallel[0], *parallel, out, DROPPING, config)
        return OK

    sys.exit(run(trained))


def together(
    context: multiprocessing.context.ForkServerContext,
    parallel: tuple[Path, Path],
    out: Path,
    machines: int = 1,
    kill: tuple[int, int] = (0, 0),
) -> list[int | None]:
    """Train in two processes, on one machine or as on two, with a folder each; the second may get a signal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        told = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2 // machines, "MASTER_PORT": probe.getsockname()[1]}
    running = []
    for rank in range(2):
        folder = out / f"machine-{rank // (2 // machines)}"
        own = told | {"RANK": rank, "LOCAL_RANK": rank % (2 // machines)}
        given = (parallel, folder, SHARED, own, kill if rank else (0, 0))
        running.append(context.Process(target=_train, args=given))
        running[-1].start()
    for process in running:
        process.join()
    return [process.exitcode for process in running]


@pytest.fixture(scope="module")
def whole(context, parallel: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes on one machine have trained in one go."""
    out = tmp_path_factory.mktemp("together")
    assert together(context, parallel, out) == [0, 0], (out / "said-0").read_text() + (out / "said-1").read_text()
    return out


def test_two_processes_make_the_run_of_one(parallel: tuple[Path, Path], whole: Path, tmp_path: Path) -> None:
    """Sums of gradients differ in their order alone: in float32 losses stay within a thousandth over 24 steps."""
    train(parallel[0], *parallel, tmp_path / "alone", DROPPING, SHARED)
    shared_out = whole / "machine-0"
    one, two = curve(tmp_path / "alone"), curve(shared_out)
    assert [point["step"] for point in one] == [point["step"] for point in two]
    for alone, shared in zip(one, two, strict=True):
        assert alone.keys() == shared.keys() and alone["tokens"] == shared["tokens"]
        for name in alone.keys() & {"loss", "valid_loss"}:
            assert shared[name] == pytest.approx(alone[name], rel=1e-3), alone
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    told = [load_checkpoint(folder)[1] for folder in (tmp_path / "alone", shared_out)]
    for name in ("row_counts", "target_tokens", "best_step"):
        assert told[0][name] == told[1][name]
    assert [info["processes"] for info in told] == [1, 2]
    assert sorted(path.name for path in shared_out.iterdir()) == sorted(p.name for p in (tmp_path / "alone").iterdir())
    assert "training: step 24/24, validation loss" in (whole / "said-0").read_text()
    assert (whole / "said-1").read_text() == ""


def test_one_that_is_asked_to_end_ends_all_saved_and_they_go_on_exactly(
    context, parallel: tuple[Path, Path], whole: Path, tmp_path: Path
) -> None:
    """On two machines, of which the first alone has the checkpoint."""
    assert together(context, parallel, tmp_path, 2, (10, signal.SIGTERM)) == [143, 143]
    assert [path.name for path in kept(tmp_path / "machine-0")] == ["step-00000008", "step-00000011"]
    assert not kept(tmp_path / "machine-1")
    assert together(context, parallel, tmp_path, 2) == [0, 0]
    assert "resuming after step 11," in (tmp_path / "said-0").read_text()
    assert_same(weights(tmp_path / "machine-0"), weights(whole / "machine-0"))
    assert curve(tmp_path / "machine-0") == curve(whole / "machine-0")
    assert not list((tmp_path / "machine-1").iterdir())


def test_one_that_is_killed_ends_the_other_with_a_sentence(
    context, parallel: tuple[Path, Path], tmp_path: Path
) -> None:
    assert together(context, parallel, tmp_path, 1, (10, signal.SIGKILL)) == [2, -signal.SIGKILL]
    complaint = (tmp_path / "said-0").read_text().splitlines()[-1]
    assert complaint.startswith("error: process 0 of 2 waits for another one in vain, whose own words tell why")


def test_torchrun_starts_them(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    short = to_dict(DROPPING) | to_dict(SHARED) | {"steps": 4, "eval_every": 2}
    settings = [f"--{key}={value}" for key, value in short.items() if value != {}]
    command = [*torchrun, "-m", "model.training", *map(str, parallel), "--out", str(tmp_path / "out"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training: step 4/4, validation loss") == 1, "one of them is heard"
    assert load_checkpoint(tmp_path / "out")[1]["processes"] == 2


def test_processes_are_started_and_what_they_made_is_told(
    parallel: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = SHARED.model_copy(update={"steps": 8, "eval_every": 4})
    inputs = str(parallel[0]), str(parallel[0]), str(parallel[1])
    info = train_together(2, *inputs, str(tmp_path / "out"), DROPPING, config)
    assert (info["processes"], info["steps"]) == (2, 8) and weights(tmp_path / "out")
    broken = config.model_copy(update={"grad_accum_steps": 3})
    with pytest.raises(RanksError, match=r"training in 2 processes has failed, with exit status 2, 2: what is wrong"):
        train_together(2, *inputs, str(tmp_path / "broken"), DROPPING, broken)
    assert "grad_accum_steps=3 cannot be shared out among 2 processes: make it a multiple" in capfd.readouterr().err


def test_a_process_alone_needs_nothing_and_half_told_ones_are_refused() -> None:
    assert started({}) == started({"WORLD_SIZE": "1", "RANK": "x"}) == Ranks()
    whole = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert started(whole) == Ranks(3, 4, 1, 2) and not started(whole).first
    with pytest.raises(
        RanksError, match=r"WORLD_SIZE=4 says .* LOCAL_RANK is not set to a number: start them with tor"
    ):
        started(whole | {"LOCAL_RANK": ""})
    with joined(3) as alone:
        assert list(alone.turns()) == [True, True, True]
        assert (alone.any(15), alone.sum(1.5, 2.0), alone.share(b"x")) == (15, [1.5, 2.0], b"x")
        assert alone.mean(nn.Linear(1, 1), torch.tensor(0.5), 7, 9) == [0.5, 7, 9]


def test_as_many_processes_as_gpus_that_are_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(gpus: int, there: int, **settings: Any) -> int:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
        return processes(gpus, TrainingConfig(**settings))

    assert [count(4, there, grad_accum_steps=8) for there in (0, 1, 2, 4, 8)] == [1, 1, 2, 4, 4]
    assert count(4, 3, grad_accum_steps=8) == 2 and count(2, 2, grad_accum_steps=2, device="cpu") == 1
    with pytest.raises(
        ConfigError, match=r"training.grad_accum_steps: 3 micro-batches cannot .* resources.gpus=2: make"
    ):
        from_dict(Profile, {"training": {"grad_accum_steps": 3}, "resources": {"gpus": 2}})
