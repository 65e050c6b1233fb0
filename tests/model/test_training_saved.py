"""Training that is killed at any moment, asked to end, or finds its checkpoints damaged: the result is the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import NetworkConfig, TrainingConfig
from model.training import loop
from model.training.loop import Trainer, train
from model.training.saved import kept, place
from tests.helpers.training import (
    CONFIG,
    NETWORK,
    assert_same,
    break_off,
    curve,
    weights,
)

KILLS = 20
POINTS = 40  # of the curve: most checkpoints fall between two
DROPPING = NETWORK.model_copy(update={"dropout": 0.1})
LONG = CONFIG.model_copy(
    update={"steps": 120, "batch_tokens": 128, "save_every": 2, "eval_every": 12, "grad_accum_steps": 2}
)
SAVES = ("open", "os.chmod", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.copyfile", "shutil.rmtree")


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """New processes that have imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.model.test_training_saved"])
    return context


def in_a_save(count: int, happens: Callable[[], Any]) -> None:
    """Have something happen at the so-manieth call of the file system in what checkpoints lie in."""
    left = count

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        if event in SAVES and "/last" in str(given[0]):
            left -= 1
            if not left:
                happens()

    sys.addaudithook(hook)


def in_a_step(number: int, count: int) -> None:
    """Have this process killed in its so-manieth step, or after it, where Python has made so many calls since."""
    update, left = Trainer.update, count

    def profile(*_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self: Trainer, *given: Any) -> float:
        nonlocal number
        number -= 1
        if not number:
            sys.setprofile(profile)
        return update(self, *given)

    Trainer.update = counted  # type: ignore[method-assign]


def _train(
    parallel: tuple[Path, Path],
    out: Path,
    network: NetworkConfig,
    config: TrainingConfig,
    kill_in_step: tuple[int, int] = (0, 0),
    kill_in_save: int = 0,
    ask: tuple[int, int] = (0, 0),
) -> None:
    """In a process of its own: train, and die by kill -9: in a step, at so many calls from its start, or in a save.

    Or be asked to end by a signal, so many times, in the first save.
    """
    os.environ["PROMETHEUS_TRACKING"] = "off"
    os.dup2(os.open(out.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    loop.CURVE_POINTS = POINTS
    if kill_in_step[0]:
        in_a_step(*kill_in_step)
    if kill_in_save:
        in_a_save(kill_in_save, lambda: os.kill(os.getpid(), signal.SIGKILL))
    number, times = ask
    if times:
        in_a_save(1, lambda: [os.kill(os.getpid(), number) for _ in range(times)])
    train(parallel[0], *parallel, out, network, config)


def test_killed_at_twenty_moments_half_of_them_in_saves_it_makes_the_same(
    parallel: tuple[Path, Path], processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and curve, bit for bit, but for what the clock has put into the curve."""
    chance = random.Random(0)
    out, whole = tmp_path / "killed", tmp_path / "whole"
    found = []
    for kill in range(KILLS):
        in_step = (chance.randint(1, 4), chance.randint(1, 4000))
        moment = {"kill_in_save": chance.randint(1, 40)} if kill % 2 else {"kill_in_step": in_step}
        process = processes.Process(target=_train, args=(parallel, out, DROPPING, LONG), kwargs=moment)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, moment
        found.append([path.name for path in kept(out)])
    assert len({tuple(names) for names in found}) > KILLS / 4, found  # it got on meanwhile
    assert not (out / "training.json").exists()
    monkeypatch.setattr(loop, "CURVE_POINTS", POINTS)
    train(parallel[0], *parallel, out, DROPPING, LONG)
    train(parallel[0], *parallel, whole, DROPPING, LONG)
    assert_same(weights(out), weights(whole))
    assert curve(out) == curve(whole) and len(curve(whole)) == POINTS + LONG.steps // LONG.eval_every
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
    told = [json.loads((folder / "training.json").read_text()) for folder in (out, whole)]
    for key in ("held", "free", "peak", "seconds"):  # of the process that told them, not of the run
        assert all(one["plan"].pop(key) for one in told)
    for key in told[0].keys() - {"seconds", "tokens_per_second", "peak_memory"}:
        assert told[0][key] == told[1][key], key


@pytest.mark.parametrize(
    ("number", "times", "status"),
    [
        (signal.SIGTERM, 1, 143),
        (signal.SIGTERM, 2, -signal.SIGTERM),
        (signal.SIGINT, 1, 1),  # a KeyboardInterrupt, with which multiprocessing ends so
        (signal.SIGINT, 2, 1),
    ],
)
def test_asked_to_end_it_saves_and_asked_twice_it_ends_at_once(
    parallel: tuple[Path, Path], processes, tmp_path: Path, number: int, times: int, status: int
) -> None:
    """In the middle of a save, which is brought to its end, or is as if it had not begun."""
    out, config = tmp_path / "out", CONFIG.model_copy(update={"save_every": 5})
    process = processes.Process(target=_train, args=(parallel, out, NETWORK, config), kwargs={"ask": (number, times)})
    process.start()
    process.join()
    assert process.exitcode == status
    assert [path.name for path in kept(out)] == (["step-00000005", "step-00000006"] if times == 1 else [])
    train(parallel[0], *parallel, out, NETWORK, config)
    train(parallel[0], *parallel, tmp_path / "whole", NETWORK, config)
    assert_same(weights(out), weights(tmp_path / "whole"))


@pytest.fixture(scope="module")
def whole(parallel: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    train(parallel[0], *parallel, out, NETWORK, CONFIG)
    return out


@pytest.fixture
def broken_off(parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has ended in its step 20: its checkpoints are of the steps 8 and 16."""
    break_off(parallel, tmp_path / "out", monkeypatch, 20)
    return tmp_path / "out"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "truncated": ("state.safetensors", lambda path: os.truncate(path, path.stat().st_size // 2), "bytes, manifest"),
    "of no length": ("state.safetensors", lambda path: os.truncate(path, 0), "0 bytes, manifest"),
    "a byte flipped": ("state.safetensors", flip, "sha256"),
    "empty json": ("progress.json", lambda path: path.write_text("{}"), "2 bytes, manifest"),
    "best weights flipped": ("model.safetensors", flip, "sha256"),
    "best weights gone": ("model.safetensors", Path.unlink, "No such file"),
    "manifest of no length": ("manifest.json", lambda path: os.truncate(path, 0), "manifest.json: Expecting value"),
    "empty manifest": ("manifest.json", lambda path: path.write_text("{}"), "does not list a checkpoint's files"),
    "manifest flipped": ("manifest.json", flip, ""),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    parallel: tuple[Path, Path], broken_off: Path, whole: Path, capfd, kind: str
) -> None:
    name, damage, told = DAMAGES[kind]
    damage(place(broken_off, 16) / name)
    train(parallel[0], *parallel, broken_off, NETWORK, CONFIG)
    out, err = capfd.readouterr()
    assert f"warning: checkpoint {place(broken_off, 16)} is damaged, and passed over: " in err and told in err
    assert "resuming after step 8," in out
    assert_same(weights(broken_off), weights(whole))
    assert curve(broken_off) == curve(whole)


def test_where_both_are_damaged_it_begins_anew_and_says_so(
    parallel: tuple[Path, Path], broken_off: Path, whole: Path, capfd
) -> None:
    for folder in kept(broken_off):
        flip(folder / "state.safetensors")
    train(parallel[0], *parallel, broken_off, NETWORK, CONFIG)
    out, err = capfd.readouterr()
    assert err.count("is damaged, and passed over") == 2 and "no whole checkpoint is left" in err
    assert "resuming" not in out and "training begins at its first step" in err
    assert_same(weights(broken_off), weights(whole))


def test_two_are_kept_readable_by_all_and_what_was_half_written_goes(
    parallel: tuple[Path, Path], broken_off: Path, whole: Path
) -> None:
    assert [path.name for path in kept(broken_off)] == ["step-00000008", "step-00000016"]
    for path in (broken_off, *broken_off.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    half = broken_off / "last" / ".step-00000024.partial-abc"
    shutil.copytree(place(broken_off, 16), half)
    for left in (broken_off / ".upload-abc", broken_off / ".tokenizer.partial-abc"):
        left.mkdir()
    (broken_off / ".model.safetensors.draft").touch()
    with pytest.MonkeyPatch.context() as patch:
        break_off(parallel, broken_off, patch, 22)  # it goes at the start, not at the end
    names = sorted(path.name for path in (*broken_off.iterdir(), *(broken_off / "last").iterdir()))
    assert names == ["curves.jsonl", "last", "model.safetensors", "step-00000008", "step-00000016", "tokens"]
    train(parallel[0], *parallel, broken_off, NETWORK, CONFIG)
    assert sorted(path.name for path in broken_off.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_the_scale_of_gradients_goes_on(parallel: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    """fp16's, which a resumed run would otherwise have to find anew, and lose steps over."""
    config, scales, update = CONFIG.model_copy(update={"precision": "fp16"}), list[float](), Trainer.update

    def scaled(self: Trainer, *given: Any) -> float:
        scales.append(self.scaler.get_scale())
        if self.state.step == 4:
            self.scaler.update(256.0)
        if self.state.step == 12 and len(scales) == 13:
            raise InterruptedError
        return update(self, *given)

    monkeypatch.setattr(Trainer, "update", scaled)
    with pytest.raises(InterruptedError):
        train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)
    train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)
    assert scales[0] > 256 and set(scales[5:]) == {256.0} and len(scales) == 13 + 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: its random state was NOT tried")
def test_dropout_on_a_gpu_goes_on_where_it_was(parallel: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    draws, update = list[float](), Trainer.update

    def draw(self: Trainer, *given: Any) -> float:
        if self.state.step == 12 and len(draws) == 12:
            raise InterruptedError
        draws.append(torch.rand((), device="cuda").item())
        return update(self, *given)

    monkeypatch.setattr(Trainer, "update", draw)
    config = CONFIG.model_copy(update={"device": "cuda"})
    with pytest.raises(InterruptedError):
        train(parallel[0], *parallel, tmp_path / "out", DROPPING, config)
    train(parallel[0], *parallel, tmp_path / "out", DROPPING, config)
    assert draws[12:16] == draws[8:12]
