"""The frame around every step: it times the step, checks what the step wrote, and tells people and the runner.

A step's lines go to standard output between two marks, so that a log with many voices in it can be read:

    ==> train-tokenizer
    ...                                   # what the library prints
    <== train-tokenizer: ok, 12.3 s

Components import their library inside the frame, so that a broken image is told like any other failure.

Where $PROMETHEUS_STEPS names a file, the step's record is appended to it at its start and, in its last form, at its
end; one that is still running is how the runner knows that a step was killed.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.results import finite
from model.errors import ProjectError, reason

START, END = "==> ", "<== "
STEPS_VARIABLE = "PROMETHEUS_STEPS"


class StepError(ProjectError, RuntimeError):
    """A step that ended without writing what it promised."""


@contextmanager
def step(name: str, **outputs: str) -> Iterator[None]:
    """Run the body as the step ``name``; afterwards every output (a path by its name) must be a directory with files.

    Raises:
        StepError: where an output is missing, which Kubeflow by itself would take for a success.
    """
    print(f"{START}{name}", flush=True)
    begin = time.monotonic()
    record: dict[str, Any] = {"name": name, "status": "running", "began": time.time(), "error": "", "outputs": {}}
    _append(record)
    record["status"] = "failed"
    try:
        yield
        _check(name, outputs)
        record.update(status="ok", outputs=outputs)
    except KeyboardInterrupt:
        record.update(status="killed", error="interrupted")
        raise
    except Exception as failure:
        record["error"] = describe(failure)
        raise
    finally:
        seconds = time.monotonic() - begin
        _append({**record, "seconds": round(seconds, 3)})
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


def _check(name: str, outputs: dict[str, str]) -> None:
    for output, path in outputs.items():
        if not Path(path).is_dir() or not any(Path(path).iterdir()):
            raise StepError(f"step {name} ended without writing its output {output!r} to {path}")


def _append(record: dict[str, Any]) -> None:
    if path := os.environ.get(STEPS_VARIABLE):
        # One short write in append mode, so that steps that run side by side do not mix their lines.
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
