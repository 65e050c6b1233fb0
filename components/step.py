"""The frame around every step: it times the step, checks what the step wrote, and tells people and the runner.

A step's lines go to standard output between two marks, so that a log with many voices in it can be read:

    ==> train-tokenizer
    ...                                   # what the library prints
    <== train-tokenizer: ok, 12.3 s

Components import their library inside the frame, so that a broken image is told like any other failure. A step runs the
code that the pipeline was compiled from (components/code.py), or not at all.

Where $PROMETHEUS_STEPS names a file, the step's record is appended to it at its start and, in its last form, at its
end, with the versions and the hardware of the place where it ran, and the code where it ended well; one that is still
running is how the runner knows that a step was killed.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components import code, machine
from evaluation.results import finite
from model.errors import ProjectError, reason

START, END = "==> ", "<== "
STEPS_VARIABLE = "PROMETHEUS_STEPS"
IMAGE_VARIABLE = "PROMETHEUS_CODE_DESCRIBED"  # our images have it (pipelines/provenance.py)


class StepError(ProjectError, RuntimeError):
    """A step that ended without writing what it promised."""


@contextmanager
def step(name: str, compiled: str, **outputs: str) -> Iterator[None]:
    """Run the body as the step ``name``; afterwards every output (a path by its name) must be a directory with files.

    Args:
        name: What people are shown.
        compiled: The code of this step that the pipeline was compiled from.
        outputs: Paths of the artifacts that the body writes.

    Raises:
        CodeError: where the code here is another one.
        StepError: where an output is missing, which Kubeflow by itself would take for a success.
    """
    print(f"{START}{name}", flush=True)
    begin = time.monotonic()
    record: dict[str, Any] = {"name": name, "status": "running", "began": time.time(), "error": "", "outputs": {}}
    _append(record)
    record["status"] = "failed"
    try:
        _check_code(compiled)
        yield
        _check(name, outputs)
        record.update(status="ok", outputs=outputs, code=code.code_of(compiled.rpartition("-")[0]))
    except (KeyboardInterrupt, SystemExit) as ended:
        record.update(status="killed", error=str(ended) or "interrupted")
        raise
    except Exception as failure:
        record["error"] = describe(failure)
        raise
    finally:
        seconds = time.monotonic() - begin
        place = {"versions": machine.versions(), "hardware": machine.hardware()}
        _append({**record, **place, "seconds": round(seconds, 3)})
        sys.stdout.flush()
        error = f"\n{END}{record['error']}" if record["error"] else ""
        print(f"{END}{name}: {record['status']}, {seconds:.1f} s{error}", flush=True)


def describe(error: BaseException) -> str:
    """The line to show for an error: bare for our own exceptions, with the type's name for any other."""
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()).replace(":; ", ": ")
    return text if isinstance(error, ProjectError) and text else reason(error)


def scalars(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers in nested plain data, by dotted name: what a Metrics artifact can show.

    >>> scalars({"train": {"loss": 1.5}, "kind": "bpe"})
    {'train.loss': 1.5}
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found.update(scalars(value, f"{prefix}{key}."))
        elif finite(value) is not None:
            found[f"{prefix}{key}"] = float(value)
    return found


def _check_code(compiled: str) -> None:
    """Refuse other code than the compiled one; on a checkout, which may be worked on while a run trains, warn of it."""
    if not (problem := code.check(compiled)):
        return
    if os.environ.get(STEPS_VARIABLE) and IMAGE_VARIABLE not in os.environ:  # an image built by hand has it empty
        print(f"WARNING: the code has changed since the run began: {problem}", flush=True)
        return
    raise code.CodeError(f"{problem}: build the images from the code that is compiled, or compile that of the image")


def _check(name: str, outputs: dict[str, str]) -> None:
    for output, path in outputs.items():
        if not Path(path).is_dir() or not any(Path(path).iterdir()):
            raise StepError(f"step {name} ended without writing its output {output!r} to {path}")


def _append(record: dict[str, Any]) -> None:
    if path := os.environ.get(STEPS_VARIABLE):
        # One short write in append mode, so that steps that run side by side do not mix their lines.
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
