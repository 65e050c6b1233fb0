"""One dialect for all command lines: options from settings, one sentence for wrong input, a traceback for a bug."""

import argparse
import os
import subprocess
import sys
from subprocess import PIPE

import pytest

from model.config import ConfigError, CorpusConfig, NetworkConfig, TokenizerConfig, TrainingConfig, from_dict
from model.options import Parser, read_settings, run
from serving.config import ServerConfig
from serving.engine.config import EngineConfig


def parser(*models) -> Parser:
    made = Parser("x", "Made for a test.")
    for model in models:
        made.add_settings(model)
    return made


@pytest.mark.parametrize(
    "model", [CorpusConfig, NetworkConfig, TokenizerConfig, TrainingConfig, EngineConfig, ServerConfig]
)
def test_every_setting_is_an_option_spelled_as_it_is(model):
    made = parser(model)
    shown = " ".join(made.format_help().split())
    assert read_settings(model, made.parse_args([])) == model()
    for name, field in model.model_fields.items():
        assert f"--{name} " in shown or f"--{name} |" in shown, name
        assert " ".join(field.description.split())[:40] in shown.replace("- ", "-")


def test_what_is_given_is_read_and_what_is_not_keeps_its_default():
    made = parser(NetworkConfig, TrainingConfig)
    options = made.parse_args(["--preset", "mini-gpt", "--d_ff", "96", "--muon_lr", "1e-3", "--steps", "7"])
    assert read_settings(NetworkConfig, options) == from_dict(NetworkConfig, {"preset": "mini-gpt", "d_ff": 96})
    training = read_settings(TrainingConfig, options, seed=5)
    assert training == TrainingConfig(steps=7, muon_lr=1e-3, seed=5)
    engine = parser(EngineConfig).parse_args(["--no-spin", "--source_buckets", "8", "16", "--provider", "cpu"])
    assert read_settings(EngineConfig, engine) == EngineConfig(source_buckets=[8, 16], provider="cpu")


def test_all_options_out_of_range_are_told_together():
    options = parser(TrainingConfig).parse_args(["--steps", "0", "--adam_lr", "nan"])
    with pytest.raises(ConfigError, match=r"(?s)^--steps: must be at least 1, not 0 .*\n--adam_lr: must be a finite"):
        read_settings(TrainingConfig, options)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--http_port 0", "--http_port: must be at least 1, not 0 (Port of REST)"),
        ("--grpc_port 8080", "--grpc_port: http_port and grpc_port must differ, both are 8080"),
        (
            "--model_name a/b",
            "--model_name: 'a/b' is not of the form ^[^/]+$ (Name of the model in every address; no slash)",
        ),
        ("--request_timeout 1e300", "--request_timeout: must be at most 1000000, not 1e+300"),
        ("--grace_period -1", "--grace_period: must be at least 0, not -1"),
        ("--max_body_bytes 0", "--max_body_bytes: must be at least 1, not 0"),
        (
            "--allow_origins * null https://app.example app.example",
            "--allow_origins[3]: 'app.example' is not of the form",
        ),
    ],
)
def test_the_servers_settings_are_refused_in_the_same_words(words, problem):
    options = parser(ServerConfig).parse_args(words.split())
    with pytest.raises(ConfigError) as caught:
        read_settings(ServerConfig, options)
    assert str(caught.value).startswith(problem) and "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["--step", "3"], ["--steps", "x"], ["--kind", "audio"], ["more"]])
def test_what_is_no_option_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as left:
        parser(TrainingConfig).parse_args(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and line.startswith("python -m x: ") and words[0] in line and "--help" in line


def raising(error: BaseException):
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("heads must be even"), "error: heads must be even"),
        (ConfigError("two problems:\na: one\nb: two"), "error: two problems:\n  a: one\n  b: two"),
        (FileNotFoundError(2, "No such file or directory", "my file"), "error: my file: No such file or directory"),
        (PermissionError(13, "Permission denied", b"b"), "error: b: Permission denied"),
    ],
)  # fmt: skip
def test_what_a_person_can_put_right_is_a_sentence(error, line, capsys):
    assert run(raising(error)) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_keeps_its_traceback_and_an_interruption_its_status():
    for bug in (KeyError("x"), ValueError("x"), OSError("no file is named")):
        with pytest.raises(type(bug)):
            run(raising(bug))
    assert run(raising(KeyboardInterrupt())) == 130
    assert run(lambda: 7) == 7


@pytest.mark.parametrize("lines", [3, 30000])
def test_a_reader_who_has_seen_enough_is_no_error(lines):
    """Where the output is more than a buffer holds, and where it is written at the end."""
    code = f"import sys; from model.options import run; sys.exit(run(lambda: input() or print('x\\n' * {lines}) or 0))"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=buffered, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""


def test_settings_are_in_a_namespace_beside_others():
    options = argparse.Namespace(steps=3, corpus="x")
    assert read_settings(TrainingConfig, options).steps == 3
