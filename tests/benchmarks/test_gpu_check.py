"""The check for GPUs, rehearsed on a CPU: every part finds what it must, on no more than is said to be needed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import results
from benchmarks.gpu import checking
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.flops import data_sheet, training_flops
from benchmarks.gpu.folder import Prepared, opened
from benchmarks.gpu.needed import NEEDED
from benchmarks.gpu.table import NOTHING, gpu_table
from benchmarks.gpu.training import LEAST_STEPS, fitted_steps
from benchmarks.machine import BenchmarkError
from model.config import NetworkConfig, TrainingConfig
from model.network import Transformer
from model.training.batches import Batch
from model.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[2]
# Python reads it before anything else, in every process that the check begins: other packages are not there.
REFUSAL = """
import sys
from importlib.machinery import PathFinder

class Refusal:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in ALLOWED or top in sys.stdlib_module_names or top.startswith("_")
        return PathFinder.find_spec(name, path, target) if known else None

    def __getattr__(self, name):
        return getattr(PathFinder, name)

sys.meta_path[sys.meta_path.index(PathFinder)] = Refusal()
"""


def brought(names: Sequence[str]) -> set[str]:
    """What can be imported where these packages, and what they require, are installed."""
    found: dict[str, set[str]] = {}
    waiting = [*names]
    while waiting:
        if (name := waiting.pop().lower()) in found:
            continue
        found[name] = set()
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # it is for another system
            package = importlib.metadata.distribution(name)
            found[name] = {path.parts[0].partition(".")[0] for path in package.files or []}
            required = [each for each in package.requires or [] if "extra ==" not in each]
            waiting += [re.split(r"[^\w.-]", each)[0] for each in required]
    return set().union(*found.values())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which nothing can be imported but the check itself and what it says that it needs."""
    folder = tmp_path_factory.mktemp("refusal")
    allowed = sorted({"benchmarks", "model", "sitecustomize"} | brought(NEEDED))
    (folder / "sitecustomize.py").write_text(f"ALLOWED = {allowed!r}\n{REFUSAL}", "utf-8")
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "carried"
    assert main(["prepare", "--profile", "tiny", "--max_rows", "800", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def rehearsal(
    carried: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    out = tmp_path_factory.mktemp("result") / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "check", str(carried), "--device", "cpu"]
    command += ["--minutes", "0.05", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    return done, json.loads(out.read_text("utf-8"))


def test_what_is_carried_is_whole_and_has_no_text_to_train_on(carried: Path) -> None:
    names = {path.name for path in carried.iterdir()}
    assert names == {"settings.json", "corpus.json", "valid.jsonl.zst", "tokenizer", "tokens"}
    assert opened(carried, "cuda").network.d_ff == 128 and opened(carried, "cuda").training.device == "cuda"


def test_the_refusal_refuses(environment: dict[str, str]) -> None:
    for name in ("lxml", "onnxruntime", "yaml", "kfp", "sacrebleu", "pipelines"):
        command = [sys.executable, "-c", f"import {name}"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.stderr.endswith(f"No module named '{name}'\n")


def test_every_part_is_measured_with_no_more_than_is_needed(rehearsal) -> None:
    done, result = rehearsal
    assert done.returncode == 0, done.stderr
    assert [*result["parts"]] == [*checking.BUDGETS] and result["rehearsal"]
    assert all(part["measured"] for part in result["parts"].values()) and checking.passed(result)
    assert done.stdout.strip() == gpu_table([result])


def test_training_ends_its_schedule_in_its_time(rehearsal) -> None:
    run = rehearsal[1]["parts"]["training"]
    assert run["complete"] and run["steps"] == run["planned_steps"] >= LEAST_STEPS
    assert run["curve"][-1]["step"] == run["validation"][-1]["step"] == run["steps"]
    assert run["curve"][-1]["loss"] < run["curve"][0]["loss"]
    assert 0 < run["flops"]["share_of_product"] < 1 and run["tokens_per_second"] > 0
    assert run["flops"]["tflops"] == pytest.approx(run["tokens"] / run["seconds"] * run["flops"]["per_token"] / 1e12)


def test_parity_tells_precisions_apart(rehearsal) -> None:
    found = rehearsal[1]["parts"]["parity"]["precisions"]
    assert found["fp32"]["gradient_error"] == found["fp32"]["loss_error"] == 0  # here it is the CPU itself
    assert 0 < found["fp16"]["gradient_error"] < found["bf16"]["gradient_error"] < 0.05
    assert all(each["within"] and each["worst_gradient_error"] >= each["gradient_error"] for each in found.values())


def test_a_run_is_killed_and_goes_on(rehearsal) -> None:
    found = rehearsal[1]["parts"]["resume"]
    assert found["same_weights"] and found["same_curve"] and found["repeats_itself_by_default"]
    assert 10 <= found["killed_after_checkpoint"] <= found["went_on_after_step"] < found["steps"]


def test_the_group_says_what_there_is(rehearsal) -> None:
    found = rehearsal[1]["parts"]["group"]
    assert found["same_weights_under_torchrun"]
    assert found["status"] in ("not in this version", "gradients through a group of one by gloo: as they are")


def test_a_part_that_fails_takes_no_other_with_it(carried: Path, tmp_path: Path, monkeypatch) -> None:
    written, write = [], checking.write_json
    monkeypatch.setattr(checking, "BUDGETS", {"resume.nothing": 60, "resume": 0.01, "parity": 60})
    monkeypatch.setattr(checking, "write_json", lambda out, data: (written.append([*data["parts"]]), write(out, data)))
    monkeypatch.setattr("benchmarks.gpu.processes.ASKED_SECONDS", 0.0)
    result, out = checking.check(opened(carried, "cpu"), 1, tmp_path / "gpu.json")
    assert written == [["resume.nothing"], ["resume.nothing", "resume"], ["resume.nothing", "resume", "parity"]]
    assert "invalid choice: 'resume.nothing'" in result["parts"]["resume.nothing"]["error"]
    assert "not done within" in result["parts"]["resume"]["error"]
    assert result["parts"]["parity"]["within"] and not checking.passed(result)
    assert json.loads(out.read_text("utf-8")) == result
    assert "Not measured: resume.nothing, resume." in gpu_table([result])


@pytest.mark.parametrize("family", ["seq2seq", "decoder"])
def test_the_formula_counts_what_pytorch_counts(family: str, tmp_path: Path) -> None:
    """Where nothing is padded, and the loss is taken everywhere."""
    sizes = {"d_model": 48, "heads": 3, "kv_heads": 1, "head_dim": 16, "d_ff": 80, "max_positions": 32}
    network = NetworkConfig(family=family, encoder_layers=3, decoder_layers=2, **sizes)  # type: ignore[arg-type]
    source, inputs, labels = torch.randint(4, 50, (3, 8, 12)).numpy()
    batch = Batch.of(source if family == "seq2seq" else None, inputs[:, :8], labels[:, :8])
    examples: Any = SimpleNamespace(
        network=network,
        config=TrainingConfig(device="cpu", precision="fp32"),
        tokenizer=SimpleNamespace(vocab_size=60),
    )
    trainer = Trainer(examples, tmp_path)
    with FlopCounterMode(display=False) as counted:
        trainer.loss(batch).backward()
    assert isinstance(trainer.network, Transformer)
    assert training_flops(network, 60, [batch, batch]) == 2 * counted.get_total_flops()


def test_steps_leave_time_for_validations_and_checkpoints() -> None:
    pace = {"step_seconds": 0.1, "validation_seconds": 2.0, "checkpoint_seconds": 1.0}
    config = TrainingConfig(eval_every=100, save_every=50)
    steps = fitted_steps(pace, 100.0, config)
    assert 95 < steps * 0.1 + (steps // 100 + 1) * 2 + steps // 50 * 1 <= 100.2
    assert fitted_steps(pace, -5.0, config) == LEAST_STEPS


def test_a_gpu_is_known_by_its_name() -> None:
    assert (data_sheet("NVIDIA H200"), data_sheet("NVIDIA L40S"), data_sheet("NVIDIA L4")) == (989.0, 362.0, 121.0)
    assert data_sheet("NVIDIA L40") is None


def test_what_is_missing_is_named_in_one_sentence() -> None:
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "check", "carried"]  # without site-packages
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode and line.startswith(f"error: this machine lacks {', '.join(NEEDED)}: python -m pip install")


def test_a_folder_of_another_kind_is_refused(carried: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"not prepared for a GPU .*make it anew with"):
        opened(tmp_path, "cpu")
    (tmp_path / "mine").write_text("", "utf-8")
    with pytest.raises(BenchmarkError, match="is there and was not prepared for a GPU"):
        main(["prepare", "--profile", "tiny", "--out", str(tmp_path)])
    with pytest.raises(BenchmarkError, match="--minutes: must be above 0"):
        main(["check", str(carried), "--device", "cpu", "--minutes", "0"])


def test_the_documents_table_is_made_of_the_results_that_there_are(rehearsal, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.gpus_table("all") == gpu_table([]) == NOTHING
    result = rehearsal[1]
    result["parts"]["precision"]["device"]["name"] = "NVIDIA H200"
    for name in ("gpu-one", "gpu-two"):
        (tmp_path / f"{name}.json").write_text(json.dumps(result), "utf-8")
    table = results.gpus_table("all")
    assert table.startswith("|  | NVIDIA H200 | NVIDIA H200 |") and results.gpus_table("two") == gpu_table([result])
    assert "| killed and resumed: same weights | yes | yes |" in table


def test_the_result_is_named_by_the_gpu() -> None:
    parts = {"precision": {"device": {"name": "NVIDIA H100 80GB HBM3"}}}
    assert checking._named({"rehearsal": False, "parts": parts}).name == "gpu-nvidia-h100-80gb-hbm3.json"
    assert checking._named({"rehearsal": True, "parts": parts}).parent.name == "build"


def test_a_rehearsal_has_a_toy_of_the_same_family(carried: Path) -> None:
    prepared = opened(carried, "cpu")
    assert isinstance(prepared, Prepared) and prepared.network.family == "seq2seq" and prepared.network.heads == 2
