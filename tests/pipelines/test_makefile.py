"""The Makefile says what it can do, and hands every value on, the repeated ones too."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("--http_port=8080", "--grpc_port=8081")


def clean_environment() -> dict[str, str]:
    """Ours, without what an outer make has put there."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "GNUMAKEFLAGS"}


def make(*arguments: str, **variables: str) -> str:
    """Output of make in the repository; the outer make's variables are kept away."""
    environment = clean_environment()
    command = ["make", "--no-print-directory", "-o", ".venv/.stamp", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def options(*arguments: str, **variables: str) -> list[str]:
    """The words that `make -n` shows after the runner."""
    shown = make("-n", "pipeline-run", *arguments, **variables).replace("\\\n", " ")
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True).stdout
    found = words.decode().split("\0")[:-1]
    return found[found.index("pipelines.run") + 1 :]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["CORPUS="], []),
        (["RESUME=latest", "SET=gate.max_loss=3"], ["--set=gate.max_loss=3", "--resume=latest"]),
        (["INIT_FROM=my run", "TEST=a.tsv"], ["--test=a.tsv", "--init_from=my run"]),
        (["TEST=a.tsv"], ["--test=a.tsv"]),
        (["TEST=a.tsv", "TEST=b.tsv"], ["--test=a.tsv", "--test=b.tsv"]),
        (["TEST=a.tsv b.tsv", "CORPUS=c.tsv"], ["--corpus=c.tsv", "--test=a.tsv b.tsv"]),
        (
            ["TEST=a.tsv", "CORPUS=x.zst", "TEST=b.tsv c.tsv"],
            ["--corpus=x.zst", "--test=a.tsv", "--test=b.tsv c.tsv"],
        ),
        (["CORPUS=https://host/x.tsv?a=1&b=2"], ["--corpus=https://host/x.tsv?a=1&b=2"]),
        (["CORPUS=it's $(my) file.tsv"], ["--corpus=it's $(my) file.tsv"]),
        (["SET=training.steps=5", "SET=gate.min_chrf={}"], ["--set=training.steps=5", "--set=gate.min_chrf={}"]),
        (["SET=corpus.languages=[de, en]"], ["--set=corpus.languages=[de, en]"]),
        (
            ["RUNNER=docker", "VARIANT=gpu", "MACHINE=gpu", "PUBLISH=my store"],
            ["--runner=docker", "--variant=gpu", "--machine=gpu", "--publish_to=my store"],
        ),
    ],
)
def test_every_value_arrives(arguments, expected):
    assert options(*arguments) == expected


def test_values_from_the_environment_arrive():
    assert options(TEST="a.tsv b.tsv") == ["--test=a.tsv b.tsv"]
    assert options("TEST=a", TEST="b") == ["--test=a"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with a name of its own, the Makefile, and in place of Python what writes its arguments down."""
    folder = tmp_path_factory.mktemp("make") / "my python3 (клон) 'of' $HOME; & #"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" >arguments\n")
    python.chmod(0o755)
    return folder


TYPED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
NASTY = st.lists(st.sampled_from([*" '\"$()`%:;&#\\*?[]{}~-=\n,|<>!", "$(", "${", "$$", "::", "ж"]), min_size=1)
VALUES = TYPED | NASTY.map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=2), VALUES, st.booleans())
@example("my (profile).yaml", ["my file.tsv", "$(x.tsv"], ["corpus.languages=[de, en]"], "a 'b' $c", False)
@example("one\nprofile", [" x "], [], "\na\nb\n", True)
def test_what_is_typed_is_what_python_gets(checkout, profile, corpus, changes, bundle, by_environment):
    """Through the real make and the real shell, for names of any kind."""

    def run(target: str, *arguments: str, **variables: str) -> list[str]:
        command = ["make", "--no-print-directory", "-o", ".venv/.stamp", target, *arguments]
        subprocess.run(command, cwd=checkout, env=clean_environment() | variables, check=True, capture_output=True)
        return (checkout / "arguments").read_bytes().decode().split("\0")[:-1]

    words = [*(f"CORPUS={name}" for name in corpus), *(f"SET={change}" for change in changes), f"PROFILE={profile}"]
    expected = [f"--profile={profile}", *(f"--corpus={name}" for name in corpus)]
    assert run("pipeline-run", *words) == ["-m", "pipelines.run", *expected, *(f"--set={change}" for change in changes)]
    served = run("serve", BUNDLE=bundle) if by_environment else run("serve", f"BUNDLE={bundle}")
    assert served == ["-m", "serving", f"--bundle={bundle}", "--host=127.0.0.1", *PORTS]


@pytest.mark.parametrize(
    ("target", "name", "near"),
    [
        ("pipeline-run", "CORPOS", "did you mean CORPUS? known: PROFILE CORPUS"),
        ("pipeline-run", "profile", "did you mean PROFILE? known:"),
        ("serve", "HTTP-PORT", "did you mean HTTP_PORT?"),
        ("test", "ZZZ", "unknown variable ZZZ; known: PROFILE"),
        ("help", "it's", "unknown variable it's; known:"),
    ],
)
def test_a_variable_that_nobody_reads_is_refused_by_name(target, name, near):
    command = ["make", "-o", ".venv/.stamp", target, f"{name}=x"]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"unknown variable {name};" in line and near in line


def test_what_make_and_this_makefile_know_is_taken():
    for word in ("PYTHON=python3", "MAKEFLAGS=k", "DO_NOT_TRACK=1", "HF_HUB_DISABLE_TELEMETRY=1"):
        assert "pipeline-run" in make("help", word)
    assert "pipeline-run" in make("help", CORPOS="from the environment, which is full of names")


def test_chat_takes_a_bundle_and_where_to_keep_what_is_typed():
    assert shlex.split(make("-n", "chat").splitlines()[-1])[2:] == ["-m", "serving.chat", "--bundle=runs/live/bundle"]
    (line,) = make("-n", "chat", "BUNDLE=my bundle", "HISTORY=none").splitlines()[-1:]
    assert shlex.split(line)[3:] == ["serving.chat", "--bundle=my bundle", "--history=none"]


def test_the_check_for_gpus_takes_the_folder_that_was_carried():
    (line,) = make("-n", "gpu-check", "FOLDER=my folder").splitlines()
    assert shlex.split(line)[2:] == ["benchmarks.gpu", "check", "my folder"]


def test_help_lists_every_target_in_one_line_each():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    listed = [line.split()[0] for line in make("help").splitlines()]
    assert set(listed) == targets and len(listed) == len(targets)
    assert {"setup", "pipeline-run", "pipeline-compile", "serve", "test", "lint", "types", "lock", "clean"} <= targets


def test_continuous_integration_runs_what_people_run():
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_locks_pin_the_large_libraries_and_name_no_machine():
    everything = (ROOT / "requirements" / "all.lock").read_text(encoding="utf-8")
    serving = (ROOT / "requirements" / "serving.lock").read_text(encoding="utf-8")
    for pin in ("torch==2.13.0", "kfp==2.17.0", "kfp-kubernetes==2.17.0", "kserve==0.21.0"):
        assert f"\n{pin}\n" in everything
    lines = [line for line in (everything + serving).splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", line) for line in lines)
    pins = {line for line in everything.splitlines() if not line.startswith("#")}
    assert {line for line in serving.splitlines() if not line.startswith("#")} <= pins
    assert not re.search(r"^(torch|kfp|onnx)==", serving, re.M)
    gpu, plain = (
        re.findall(rf"^{name}==(\S+) ; (.*)$", everything, re.M) for name in ("onnxruntime-gpu", "onnxruntime")
    )
    assert gpu[0][0] == plain[0][0] and 'platform_machine == "x86_64"' in gpu[0][1]


def test_the_server_listens_on_this_machine_alone_unless_told():
    """conda's compilers and tcsh export a HOST of their own, which is no wish of anybody's."""
    assert "--host=127.0.0.1" in make("-n", "serve", HOST="x86_64-conda-linux-gnu").split()
    assert "--host=::" in make("-n", "serve", "HOST=::").split()
