"""A training is planned before its first step: its memory is what it then takes, and what cannot fit is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.config import NetworkConfig, TrainingConfig, from_dict, to_dict
from model.memory import free_memory, held_memory
from model.training import plan
from model.training.loop import train
from model.training.plan import Pace, PlanError, must_hold
from tests.helpers.training import CONFIG, NETWORK, break_off
from tests.model.test_processors import CGROUP, POD, SPLIT, V2, WHOLE, machine

GB = 10**9
FACTOR = 1.4  # between what the plan says that training will take beside what it holds, and what it takes
MEMINFO = "MemTotal: 16000000 kB\nMemFree: 10 kB\nMemAvailable: 8000000 kB"
SIZES = {
    "small": ({"d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "d_ff": 512}, 8192),
    "large": ({"d_model": 512, "encoder_layers": 3, "decoder_layers": 3, "d_ff": 2048}, 1024),
}


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "free"),
    [
        (["0::/"], WHOLE, {}, 8_192_000_000),
        (["0::/"], WHOLE, {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "5"}, 8_192_000_000),
        # A pod's limit, above the container's own group, which has none; pages of files are given up.
        (
            [f"0::/{POD}"],
            WHOLE,
            {
                f"sys/fs/cgroup/{POD}/memory.max": "max",
                "sys/fs/cgroup/kubepods.slice/pod7.slice/memory.max": "6000000000",
                "sys/fs/cgroup/kubepods.slice/pod7.slice/memory.current": "3000000000",
                "sys/fs/cgroup/kubepods.slice/pod7.slice/memory.stat": "anon 1\ninactive_file 1000000000\nslab 3",
            },
            4_000_000_000,
        ),
        (
            ["2:memory:/m"],
            SPLIT,
            {
                "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "1000000000",
                "sys/fs/cgroup/memory/m/memory.usage_in_bytes": "900000000",
                "sys/fs/cgroup/memory/m/memory.stat": "inactive_file 7\ntotal_inactive_file 100000000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            200_000_000,
        ),
        (["0::/"], [(CGROUP, ("/", V2))], {"sys/fs/cgroup/memory.max": "5", "sys/fs/cgroup/memory.current": "9"}, 0),
    ],
)
def test_what_may_still_be_taken(tmp_path, groups, mounts, files, free):
    assert free_memory(machine(tmp_path, groups, mounts, {"proc/meminfo": MEMINFO, **files})) == free


def test_where_nothing_tells_of_memory_nothing_is_known(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None and held_memory(tmp_path) == (0, 0)


def test_what_this_process_holds_is_seen() -> None:
    before, _ = held_memory()
    block = torch.ones(50_000_000)
    now, most = held_memory()
    assert now - before > 0.9 * block.nbytes and most >= now
    free = free_memory()
    assert free is None or 0 < free < 1 << 50


@pytest.mark.parametrize("size", SIZES)
def test_the_memory_of_the_plan_is_what_training_takes(parallel: tuple[Path, Path], tmp_path: Path, size: str) -> None:
    """In a process of its own, of which the system tells how much it has held at most."""
    shape, tokens = SIZES[size]
    network = from_dict(NetworkConfig, {**shape, "max_positions": 64})
    config = TrainingConfig(steps=3, batch_tokens=tokens, warmup_steps=1, precision="fp32")
    settings = [f"--{key}={value}" for key, value in (to_dict(network) | to_dict(config)).items() if value != {}]
    command = [sys.executable, "-m", "model.training", *map(str, parallel), "--out", str(tmp_path / size), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / size / "training.json").read_text("utf-8"))
    planned = told["plan"]
    if not planned["held"]:
        pytest.skip("this system does not tell what a process holds: the plan was NOT compared with it")
    more, taken = planned["peak"] - planned["held"], told["peak_memory"] - planned["held"]
    assert planned["weights"] == 4 * told["parameters"]
    assert taken / FACTOR < more < taken * FACTOR, (more, taken)


def test_the_plan_is_told_and_kept(parallel: tuple[Path, Path], tmp_path: Path, capfd) -> None:
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG)
    said = capfd.readouterr().out
    told = json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))["plan"]
    assert told == info["plan"] and told["batch"][0] * told["batch"][1] <= CONFIG.batch_tokens
    # Each pass shows each row once: what was trained on in all is so many passes.
    assert told["passes"] * told["tokens_per_pass"] == pytest.approx(info["train_tokens"], rel=0.15)
    assert f"plan: {told['passes']:.3g} passes over {told['tokens_per_pass']:,} tokens each" in said
    paced = re.search(r"plan: \S+ s a step, 11 more steps in about \d+ s", said)
    assert paced and said.index("plan: about") < paced.start() and told["seconds"] > 0


def test_what_does_not_fit_is_refused_with_settings_that_do(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"batch_tokens": 4096})
    monkeypatch.setattr(plan, "free_memory", lambda: 10_000_000)
    with pytest.raises(PlanError, match=r"and 10 MB are free within the limits of this process") as refused:
        train(parallel[0], *parallel, tmp_path / "out", NETWORK, config)
    found = re.search(r"training\.batch_tokens=(\d+) with training\.grad_accum_steps=(\d+)", str(refused.value))
    assert found, refused.value
    tokens, times = map(int, found.groups())
    assert 0.9 * 4096 <= tokens * times <= 1.5 * 4096
    fitting = config.model_copy(update={"batch_tokens": tokens, "grad_accum_steps": times, "steps": 2})
    info = train(parallel[0], *parallel, tmp_path / "out", NETWORK, fitting)
    assert info["plan"]["peak"] - info["plan"]["held"] <= 10_000_000
    monkeypatch.setattr(plan, "free_memory", lambda: 350_000)
    with pytest.raises(PlanError, match=r"One row is too much already: make network\.d_model"):
        train(parallel[0], *parallel, tmp_path / "out2", NETWORK, config)


def test_a_network_that_no_machine_holds_is_refused_before_it_is_made() -> None:
    if free_memory() is None:
        pytest.skip("this system does not tell what is free: a network that is too large was NOT refused")
    vast = NetworkConfig(d_model=1 << 16, d_ff=1 << 20, max_positions=1)
    with pytest.raises(PlanError, match=r"a network of [\d,]+ parameters takes [\d.]+ GB with its gradients"):
        must_hold(vast, 8000, torch.device("cpu"))


def test_a_resumed_run_is_planned_as_a_whole(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(parallel, tmp_path / "out", monkeypatch, 12)
    resumed = train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG)["plan"]
    whole = train(parallel[0], *parallel, tmp_path / "whole", NETWORK, CONFIG)["plan"]
    assert {key: resumed[key] for key in ("passes", "optimizer", "activations")} == {
        key: whole[key] for key in ("passes", "optimizer", "activations")
    }


def test_the_time_is_told_once_without_the_slow_first_steps(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(1013)
    for step in range(1, 1014):
        pace.stepped(step, 60.0 + 2.0 * step)
    assert capsys.readouterr().out == "plan: 2 s a step, 1,000 more steps in about 33 min\n"
    assert pace.seconds == 60.0 + 2.0 * 1013
