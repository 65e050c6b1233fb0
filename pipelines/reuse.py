"""What a step has made is used again when a run goes on after it was killed or has failed.

Beside a step's output lies step.json: what the step was given (its settings, the hash of its code, the hashes of the
artifacts that it reads) from its start on, and from its end on the hashes of what it has made. A step whose output is
whole, and that would be given the same again, is not run again; any other begins in an empty folder. Only training and
a teacher's translating go on from what they have left unfinished, and what was learned is never thrown away: where a
training would have to begin anew, the run is refused.

    python -c "from pipelines.reuse import hashed; print(hashed('README.md'))"
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from kfp.local.status import Status

from components.code import check as code_problem
from components.step import END, START
from evaluation.figures import duration
from model.errors import ProjectError
from model.files import sha256_file, write_json
from model.settings import differing
from pipelines.pipeline import pipeline

Json = dict[str, Any]
RECORD, STEPS = "step.json", "steps.jsonl"
CODE = "code"  # the parameter of every step that tells which code it is to run
TRAINING = "train-model"  # goes on from the checkpoint in its output folder (model/training/loop.py)
TRAININGS = ("train-teacher", TRAINING)
GOING_ON = (*TRAININGS, "distil")  # which goes on after its last whole shard (evaluation/distillation.py)
UP_TO_TRAINING = ("prepare-data", "prepare-shard", "merge-shards", "train-tokenizer", *GOING_ON)


class ReuseError(ProjectError):
    """A run that cannot go on without losing what was trained."""


class Call(NamedTuple):
    """A step as Kubeflow's runner calls it.

    Attributes:
        folder: What it writes to.
        given: Hashes of its settings, of its code and of the artifacts that it reads, by name. Settings are hashed one
            by one, so that it can be said which differ, and the key in a source's address is not kept.
        outputs: Names in the folder: its artifacts, and the file with its other results.
    """

    folder: Path
    given: Json
    outputs: tuple[str, ...]

    def made(self) -> dict[str, str]:
        """The hashes of its outputs as they are now."""
        return {name: hashed(self.folder / name) for name in self.outputs}


def run_once(full_command: Sequence[str], pipeline_root: str, terminal: TextIO, run: Callable[[], Status]) -> Status:
    """Run a step, unless what it made the last time can be used again; what it makes is recorded when it is whole.

    Raises:
        ReuseError: where training would have to begin anew.
    """
    call, steps = _call(full_command), Path(pipeline_root).parent / STEPS
    before = {} if call.folder.name in _always_run() else _record(call.folder)
    changed = _changed(call, before)
    if changed and before.get("given"):
        _may_begin_anew(call.folder, changed)
        print(f"{call.folder.name} is made anew: {', '.join(changed)}", file=terminal, flush=True)
    elif "made" in before:
        step = before["step"]
        outputs = {name: str(call.folder / Path(path).name) for name, path in step["outputs"].items()}
        _append(steps, {**step, "outputs": outputs, "reused": True})
        told = f"{END}{step['name']}: used again, made in {duration(step['seconds'])}"
        print(f"{START}{step['name']}\n{told}", file=terminal, flush=True)
        return Status.SUCCESS
    if call.folder.exists() and (changed or call.folder.name not in GOING_ON):
        shutil.rmtree(call.folder)
    write_json(call.folder / RECORD, {"given": call.given})
    if (status := run()) == Status.SUCCESS:
        last = _last(steps)
        # A checkout may be worked on while a run goes on: then the step says itself that it ran other code.
        if last.get(CODE) == call.given.get(CODE):
            write_json(call.folder / RECORD, {"given": call.given, "made": call.made(), "step": last})
    return status


def other_code(run_dir: Path) -> list[str]:
    """The steps up to training that have begun, and whose code is another one now."""
    folders = [record.parent for record in sorted(run_dir.glob(f"artifacts/*/**/{RECORD}"))]  # a loop's lie deeper
    codes = {folder.name: _record(folder).get("given", {}).get(CODE) for folder in folders}
    return [f"the code of {name}" for name in UP_TO_TRAINING if (code := codes.get(name)) and code_problem(code)]


def trained(run_dir: Path) -> bool:
    """Whether a run has anything to lose."""
    return any(_trained(folder) for name in TRAININGS for folder in run_dir.glob(f"artifacts/*/{name}"))


def _trained(folder: Path) -> bool:
    return any(folder.rglob("*.safetensors"))


def _changed(call: Call, before: Json) -> list[str]:
    """Why a step has to begin anew; empty where it can go on from what it left, or has made all."""
    changed = [f"{name} differs" for name in differing(before.get("given", {}), call.given)]
    if "made" in before and not changed:
        changed = [f"{name} is not as it was written" for name in differing(before["made"], call.made())]
    return changed


def _may_begin_anew(folder: Path, changed: Sequence[str]) -> None:
    if folder.name in TRAININGS and _trained(folder):
        raise ReuseError(
            f"{folder.name} would begin anew ({', '.join(changed)}) and lose what it has trained: give what the run "
            "was given, or begin another run, without RESUME"
        )


def hashed(path: str | Path) -> str:
    """The SHA-256 of a file, or of the names and contents of all files in a folder; empty where there is none."""
    path = Path(path)
    if not path.is_dir():
        return sha256_file(path) if path.exists() else ""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\0".encode())
    return digest.hexdigest()


def _call(full_command: Sequence[str]) -> Call:
    """What Kubeflow's runner has put into a step's command."""
    asked = json.loads(full_command[full_command.index("--executor_input") + 1])
    inputs, outputs = asked.get("inputs", {}), asked["outputs"]
    read = {name: " ".join(map(_made, _paths(listed))) for name, listed in inputs.get("artifacts", {}).items()}
    result = Path(outputs["outputFile"])
    written = (*(path for listed in outputs.get("artifacts", {}).values() for path in _paths(listed)), result)
    given = {**_hashes(inputs.get("parameterValues", {})), **read}
    return Call(result.parent, given, tuple(path.name for path in written))


def _made(path: Path) -> str:
    """The hash of an artifact, which the step that made it has recorded."""
    return str(_record(path.parent).get("made", {}).get(path.name) or hashed(path))


def _record(folder: Path) -> Json:
    """A step's step.json; empty where it has none."""
    path = folder / RECORD
    found: Json = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _hashes(values: Mapping[str, Any]) -> Json:
    """The values in mappings, however deep, hashed one by one; the code's hash is one already."""
    return {
        name: _hashes(value)
        if isinstance(value, Mapping)
        else value
        if name == CODE
        else hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for name, value in values.items()
    }


def _paths(listed: Json) -> list[Path]:
    """The artifacts of one name: one, or one of each step of a loop."""
    return [Path(artifact["uri"]) for artifact in listed["artifacts"]]


def _always_run() -> set[str]:
    """The steps that Kubeflow's cache is told to leave alone: what was so an hour ago need not be so now."""
    spec = pipeline.pipeline_spec
    tasks = [task for part in (spec.root, *spec.components.values()) for task in part.dag.tasks.values()]
    return {task.component_ref.name.removeprefix("comp-") for task in tasks if not task.caching_options.enable_cache}


def _last(steps: Path) -> Json:
    """The record of the step that has just ended (components/step.py); empty where it left none."""
    lines = steps.read_text(encoding="utf-8").splitlines() if steps.exists() else []
    found: Json = json.loads(lines[-1]) if lines else {}
    return found


def _append(steps: Path, record: Json) -> None:
    with open(steps, "a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
