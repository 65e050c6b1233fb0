"""What the local runner shows and keeps: step lines, step records, the latest link, versions."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime

import psutil
import pytest

from model.files import write_text
from model.options import run
from pipelines import provenance
from pipelines.folder import LOCK, REQUEST, held, new_run, point_latest, runner_lives, runner_was_killed, stale
from pipelines.local import environment, pass_on, temporary_files_in
from pipelines.request import read_request
from pipelines.run import run_pipeline
from pipelines.summary import KILLED, gather, read_steps
from tests.helpers.bundles import tiny_bundle


@pytest.fixture
def told(capsys):
    """What the terminal is shown of a step's lines, and what the log is."""

    def tell(text):
        terminal = io.StringIO()
        pass_on(text.splitlines(keepends=True), terminal)
        return terminal.getvalue(), capsys.readouterr().out

    return tell


def test_only_what_a_step_says_reaches_the_terminal(told):
    text = "noise\n==> train\nstep \x1b[96m1\x1b[0m\n  more\n<== train: ok, 1.0 s\n[KFP Executor] noise\n"
    shown, logged = told(text)
    assert shown == "==> train\nstep 1\n  more\n<== train: ok, 1.0 s\n"
    assert logged.count("noise") == 2 and "\x1b" not in logged


def test_library_logging_stays_in_the_log_unless_it_warns(told):
    shown, logged = told("==> a\n[KFP Executor 2026-01-01 INFO]: hello\n[KFP Executor 2026-01-01 WARNING]: oh\n")
    assert shown == "==> a\n[KFP Executor 2026-01-01 WARNING]: oh\n" and "hello" in logged


def test_the_reason_of_a_failure_is_shown(told):
    shown, _ = told("==> train\n<== train: failed, 1.0 s\n<== no such file\nTraceback ...\n")
    assert shown.splitlines()[1:] == ["<== train: failed, 1.0 s", "<== no such file"]


def record(path, *events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def started(name, at=100.0):
    return {"name": name, "status": "running", "began": at, "error": "", "outputs": {}}


def ended(name, status="ok", error="", **outputs):
    return {**started(name), "status": status, "seconds": 1.5, "error": error, "outputs": outputs}


def test_a_start_without_an_end_is_a_killed_step(tmp_path):
    path = tmp_path / "steps.jsonl"
    record(path, started("one"), ended("one", out="/x"), started("two", at=103.0))
    with open(path, "a") as file:
        file.write('{"name": "two", "status": "ok", "beg')
    one, two = read_steps(path, 110.0)
    assert one == {"name": "one", "status": "ok", "seconds": 1.5, "outputs": {"out": "/x"}}
    assert two == {"name": "two", "status": "killed", "seconds": 7.0, "error": KILLED, "outputs": {}}
    assert read_steps(path, 110.0, interrupted=True)[1]["error"] == "interrupted"


def test_what_an_interruption_breaks_is_not_the_steps_fault(tmp_path):
    path = tmp_path / "steps.jsonl"
    record(path, started("one"), ended("one"), started("two"), ended("two", "failed", "BrokenPipeError"))
    one, two = read_steps(path, 110.0, interrupted=True)
    assert (one["status"], two["status"], two["error"]) == ("ok", "killed", "interrupted")


def test_no_records_are_no_steps(tmp_path):
    assert read_steps(tmp_path / "absent", 0.0) == []


def test_gather_makes_a_summary_of_what_there_is(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "training.json").write_text('{"steps": 3}')
    (checkpoint / "curves.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    evaluations = []
    for variant in ("int8", "fp32"):
        (tmp_path / variant).mkdir()
        report = {"variant": variant, "bytes": 5, "scores": [], "samples": [{"output": "да"}]}
        (tmp_path / variant / "evaluation.json").write_text(json.dumps(report))
        evaluations.append({"name": f"variant-{variant}", "outputs": {"evaluation": str(tmp_path / variant)}})
    steps = [{"name": "train-model", "outputs": {"checkpoint": str(checkpoint)}}, *evaluations]
    summary = gather([*steps, {"name": "gate", "outputs": {}}], str(tmp_path / "bundle"))
    assert summary["training"] == {"steps": 3} and len(summary["curves"]) == 2
    assert [v["variant"] for v in summary["variants"]] == ["fp32", "int8"]
    assert summary["variants"][1]["samples"][0]["output"] == "да"
    assert (summary["corpus"], summary["gates"], summary["published"]) == ({}, [], None)
    assert [step["name"] for step in summary["steps"]] == ["train-model", "variant-int8", "variant-fp32", "gate"]


def test_latest_moves_to_the_newest_run(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        point_latest(tmp_path / name)
        assert (tmp_path / "latest").resolve() == (tmp_path / name).resolve()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "latest", "second"]


def test_write_text_leaves_one_file(tmp_path):
    write_text(tmp_path / "a.json", "1")
    write_text(tmp_path / "a.json", "2")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "2")]


def test_the_code_version_follows_the_sources(tmp_path, monkeypatch):
    for package in provenance.SOURCES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    before = provenance.code_version()
    assert re.fullmatch(r"1\.2\.3-[0-9a-f]{10}", before)
    assert provenance.code_version() == before
    (tmp_path / "model" / "__pycache__").mkdir()
    (tmp_path / "model" / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert provenance.code_version() == before
    for name in ("a.py", "data.json"):
        (tmp_path / "model" / name).write_text("x = 2\n")
        before, earlier = provenance.code_version(), before
        assert before != earlier


def test_versions_and_hardware_are_facts():
    assert provenance.versions()["kfp"] == "2.17.0"
    found = provenance.hardware()
    assert found["cores"] >= 1 and found["memory_gib"] > 0 and isinstance(found["gpus"], list)


@pytest.mark.parametrize("name", ["a b", "..", "a/b\0c", "имя 👍🏽 \n" * 99, "", "$HOME; (x)", "-x"])
def test_a_run_has_a_plain_name_whatever_its_profile_is_called(tmp_path, name):
    made = new_run(tmp_path, datetime.now(UTC), name)
    assert made.parent == tmp_path and re.fullmatch(r"\d{8}T\d{6}Z-[\w.-]{0,40}-[0-9a-f]{4}", made.name)


def test_credentials_of_a_profiles_own_text_are_neither_printed_nor_kept(tmp_path, capfd):
    """Of a run that fails at its first step: nothing listens at the address."""
    request = read_request("demo", ["corpus.sources=['http://me:s3cret@127.0.0.1:9/a.tsv?signature=s3cret']"], [], [])
    assert run_pipeline(request, "cpu", "", tmp_path) == 1
    (summary,) = tmp_path.glob("2*/summary.json")
    told, (out, err) = "http://127.0.0.1:9/a.tsv", capfd.readouterr()
    assert f"profile demo, {told}, for a cpu machine" in out and f"{told}: cannot be read" in out
    assert json.loads(summary.read_text("utf-8"))["settings"]["corpus"]["sources"] == [told]
    kept = [path.read_text("utf-8") for path in summary.parent.iterdir() if path.suffix in (".json", ".html", ".jsonl")]
    assert len(kept) == 4 and not any("s3cret" in text for text in (out, err, *kept))


ENDLESS = "training.steps=100000"


def start(runs, *changes):
    """A run in a process of its own, of whose training the first lines have been seen: (the process, its folder)."""
    command = [sys.executable, "-m", "pipelines.run", "--profile", "tiny", "--runs", str(runs)]
    command += [word for change in changes for word in ("--set", change)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith("training: step"):
            break
    (run_dir,) = runs.glob("2*")
    return process, run_dir


def test_a_killed_runner_leaves_no_step_and_the_next_run_tells_what_became_of_it(tmp_path, capfd):
    process, run_dir = start(tmp_path, ENDLESS)
    steps = psutil.Process(process.pid).children()
    assert steps and not (run_dir / "summary.json").exists() and runner_lives(run_dir)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(steps, timeout=20)[1], "the step goes on without its runner"
    assert stale(tmp_path) == [run_dir] and runner_was_killed(run_dir)

    request = read_request("demo", ["corpus.sources=['http://127.0.0.1:9/a.tsv']"], [], [])
    assert run_pipeline(request, "cpu", "", tmp_path) == 1
    assert f"run {run_dir}: it ended before it could write its summary, which is there now\n" in capfd.readouterr().out
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    assert summary["status"] == "failed" and summary["profile"] == "tiny" and summary["seconds"] > 0
    assert [step["status"] for step in summary["steps"]] == ["ok"] * (len(summary["steps"]) - 1) + ["killed"]
    left = {path.name for path in run_dir.iterdir()}
    assert left == {"artifacts", "kfp.log", "report.html", "request.json", "steps.jsonl", "summary.json"}
    assert stale(tmp_path) == [] and (tmp_path / "latest").resolve() != run_dir


def test_a_run_that_goes_on_is_not_taken_for_a_killed_one(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / REQUEST).write_text("{}")
    with held(tmp_path / "one") as had:
        assert had and stale(tmp_path) == [] and not runner_was_killed(tmp_path / "one")
    assert stale(tmp_path) == [tmp_path / "one"] and not (tmp_path / "one" / LOCK).exists()


def test_the_environment_is_afterwards_what_it_was_before(monkeypatch):
    monkeypatch.setenv("PROMETHEUS_IMAGE", "mine")
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt), environment({"PROMETHEUS_IMAGE": "its", "PROMETHEUS_STEPS": "steps.jsonl"}):
        assert (os.environ["PROMETHEUS_IMAGE"], os.environ["PROMETHEUS_STEPS"]) == ("its", "steps.jsonl")
        raise KeyboardInterrupt
    assert dict(os.environ) == before


def test_temporary_files_are_in_the_run_and_gone_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with temporary_files_in(tmp_path / "run" / "tmp"):
        assert tempfile.mkdtemp().startswith(str(tmp_path / "run" / "tmp"))
        code = "import tempfile; print(tempfile.gettempdir())"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert told.strip() == str(tmp_path / "run" / "tmp")
    assert list((tmp_path / "run").iterdir()) == [] and os.environ["TMPDIR"] == str(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk: a full disk was NOT tried")
def test_on_a_full_disk_the_result_is_told_and_nothing_half_made_is_left(tmp_path, capfd):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(tmp_path)], check=True)
    try:
        request = read_request("demo", ["corpus.sources=['http://127.0.0.1:9/a.tsv']"], [], [])
        fill = tmp_path / "fill"

        class Full:
            """Stands where containers do: a step's record, and then no room is left."""

            variant, versions, hardware, notes = "cpu", {}, {"gpus": []}, []

            def run(self, arguments, run_dir, steps):
                record(steps, started("one"), ended("one", "failed", "no room"))
                with open(fill, "wb", 0) as file, pytest.raises(OSError):
                    while True:
                        file.write(bytes(4096))

        assert run(lambda: run_pipeline(request, "auto", "", tmp_path, Full())) == 1
        out, err = capfd.readouterr()
        assert out.rstrip().endswith("step one failed after 1.5 s: no room") and err == ""
        (run_dir,) = tmp_path.glob("2*")
        assert "draft" not in "".join(path.name for path in run_dir.iterdir()) and stale(tmp_path) == [run_dir]
        fill.unlink()
        assert run_pipeline(request, "cpu", "", tmp_path, Full()) == 1
        assert json.loads((run_dir / "summary.json").read_text("utf-8"))["error"] == (
            "step one failed after 1.5 s: no room"
        )
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_only_a_run_that_published_goes_live(tmp_path):
    """And what it published is loaded once more, by its hashes."""
    request = read_request("demo", ["corpus.sources=['http://127.0.0.1:9/a.tsv']"], [], [])

    class Publishing:
        """Stands where containers do, and publishes."""

        variant, versions, hardware, notes, damaged = "cpu", {}, {"gpus": []}, [], False

        def run(self, arguments, run_dir, steps):
            bundle = tiny_bundle(run_dir / "bundle")
            if self.damaged:
                (bundle / "decoder.onnx").write_bytes(b"")
            verdict = run_dir / "verdict"
            verdict.mkdir()
            (verdict / "verdict.json").write_text('{"variant": "int8", "gates": [], "metrics": {}}')
            record(steps, ended("gate", verdict=str(verdict)), ended("publish"))

    runner = Publishing()
    assert run_pipeline(request, "cpu", "", tmp_path, runner) == 0
    live = (tmp_path / "live").resolve()
    runner.damaged = True
    assert run_pipeline(request, "cpu", "", tmp_path, runner) == 1
    assert (tmp_path / "live").resolve() == live != (tmp_path / "latest").resolve()
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text("utf-8"))
    assert summary["error"].startswith("what was published cannot be loaded here: ")
