"""What people name reaches a step as it was written, whatever it is: through Kubeflow's runner, in real processes."""

import io
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kfp import dsl, local
from kfp.local import executor_input_utils, logging_utils, placeholder_utils, subprocess_task_handler
from kfp.local.config import LocalExecutionConfig

from components.image import component
from pipelines.local import StepProcess, fill_in, install
from pipelines.pipeline import pipeline

pytestmark = pytest.mark.filterwarnings("ignore:You may be attemping")

# Pieces that some layer below once took for something of its own, among any other text that JSON can hold.
PIECES = ["python3", " ", "'", '"', "$", "$(", "`", "%", "::", "&", ";", "#", "\\", "*", "?", "[", "{}", "~", "-", "\n"]
PIECES += [
    "(",
    ")",
    "{{$}}",
    "{{$.inputs.parameters['text']}}",
    "/kfp-workspace",
    "$0",
    "$@",
    "Ж",
    "👍🏽",
    "é",
    "s3:",
    "|",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NAMES = st.lists(st.sampled_from(PIECES) | TEXT, min_size=1, max_size=8).map("".join)


@component
def echo(text: str, listed: list, mapped: dict, out: dsl.Output[dsl.Artifact]) -> str:
    """Write down every input."""
    import json
    from pathlib import Path

    Path(out.path).mkdir(parents=True)
    Path(out.path, "seen.json").write_text(json.dumps([text, listed, mapped]), encoding="utf-8")
    return text


@dsl.pipeline(name="names")
def names(text: str, listed: list, mapped: dict):
    """A step that hands its text to another."""
    first = echo(text=text, listed=listed, mapped=mapped)
    echo(text=first.outputs["Output"], listed=[], mapped={})


@component
def vanish():
    """Begin, and be killed."""
    import os
    import signal

    print("==> vanish\nhalf-way", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def terminal(monkeypatch):
    """What Kubeflow's local runner shows with our processes; everything is as it was afterwards."""
    for module, name in (
        (logging_utils, "color_text"),
        (subprocess_task_handler, "SubprocessTaskHandler"),
        (placeholder_utils, "replace_placeholders"),
        (executor_input_utils, "get_local_pipeline_resource_name"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(LocalExecutionConfig, "instance", LocalExecutionConfig.instance)
    shown = io.StringIO()
    install(shown)
    return shown


@pytest.fixture
def runner(terminal):
    """Runs the pipeline of this file; what its steps have seen."""

    def run(root: Path, **arguments) -> list:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
        names(**arguments)
        return sorted(
            (json.loads(path.read_text(encoding="utf-8")) for path in root.rglob("seen.json")),
            key=lambda seen: len(seen[1]),
            reverse=True,
        )

    return run


def folder_name(name: str) -> str:
    """The text as the name of one folder."""
    return name.replace("/", "_").encode()[:120].decode("utf-8", "ignore").strip(".") or "x"


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(NAMES, min_size=100, max_size=100), NAMES, NAMES)
@example(PIECES, "python3 {{$}} (x) 'y' \"z\" $HOME; & #", "python3-runs (мои) '$x' {{$}}")
def test_names_arrive_in_real_steps(runner, tmp_path_factory, listed, text, folder):
    """Hundreds in one step: a parameter, in a list, as keys and values, as the run's folder; and on to the next."""
    root = tmp_path_factory.mktemp("runs") / folder_name(folder)
    mapped = {name: [name, {"deep": name}] for name in listed}
    one, two = runner(root, text=text, listed=listed, mapped=mapped)
    assert one == [text, listed, mapped]
    assert two == [text, [], {}]
    assert [path.name for path in root.parent.iterdir()] == [root.name]  # nothing was written beside it


def test_thousands_of_names_are_not_too_long_for_a_command_line(runner, tmp_path):
    listed = [f"shards/часть-{i:05}.tsv.zst" for i in range(20_000)]
    assert runner(tmp_path, text="", listed=listed, mapped={})[0][1] == listed


@settings(max_examples=300, deadline=None)
@given(st.recursive(NAMES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20))
def test_a_command_is_not_text_to_be_replaced(value):
    given_input = {"inputs": {"parameterValues": {"value": value}}}
    filled = fill_in(["sh", "-ec", "python3", "source {{$}}", "--executor_input", "{{$}}"], given_input)
    assert filled[:5] == ["sh", "-ec", "python3", "source {{$}}", "--executor_input"]
    assert json.loads(filled[5]) == given_input


def test_of_a_killed_step_only_its_own_words_are_shown(terminal, tmp_path, capsys):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), raise_on_error=True)
    with pytest.raises(RuntimeError, match="'vanish' finished with status FAILURE"):
        vanish()
    assert terminal.getvalue() == "==> vanish\nhalf-way\n"
    log = capsys.readouterr().out
    assert "half-way" in log and "Executing task 'vanish'" in log and "\x1b" not in log


def test_our_steps_ask_for_nothing_else():
    """The one placeholder that is filled in is the only one in the pipeline; another one would stay as it is."""
    executors = json_format.MessageToDict(pipeline.pipeline_spec)["deploymentSpec"]["executors"].values()
    assert len(executors) == 11
    for executor in executors:
        container = executor["container"]
        assert container["args"][:3] == ["--executor_input", "{{$}}", "--function_to_execute"]
        assert container["command"][:2] == ["sh", "-ec"] and len(container["command"]) == 4
        assert not any("{{" in part for part in container["command"])


def test_what_a_person_has_set_comes_before_the_pipelines_own(monkeypatch, tmp_path):
    monkeypatch.setenv("SAID", "by a person")
    source = "import os\nfrom pathlib import Path\ndef tell(out: str): Path(out).write_text(os.environ['SAID'])\n"
    source = f"from kfp import dsl\nfrom kfp.dsl import *\n{source}"
    inputs = {"inputs": {"parameterValues": {"out": str(tmp_path / "said")}}}
    inputs["outputs"] = {"outputFile": str(tmp_path / "executor_output.json")}
    command = ["sh", "-ec", "kfp.dsl.executor_main", source, "--executor_input", json.dumps(inputs)]
    handler = StepProcess(
        "python",
        [*command, "--function_to_execute", "tell"],
        "",
        local.SubprocessRunner(False),
        {"SAID": "by the pipeline"},
    )
    handler.run()
    assert (tmp_path / "said").read_text() == "by a person"
