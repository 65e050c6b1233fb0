"""The frame around every step: it times the step, checks what the step wrote, and tells people and the runner.

A step's lines go to standard output between two marks, so that a log with many voices in it can be read:

    ==> train-tokenizer
    ...                                   # what the library prints
    <== train-tokenizer: ok, 12.3 s

Components import their library inside the frame, so that a broken image is told like any other failure.

Where $PROMETHEUS_STEPS names a file, a JSON record of the start and one of the end are appended to it; a start
without an end is how the runner knows that a step was killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    _record({"event": "start", "name": name, "time": time.time()})
    status, error = "failed", ""
    try:
        yield
        _check(name, outputs)
        status = "ok"
    except KeyboardInterrupt:
        status, error = "killed", "interrupted"
        raise
    except Exception as failure:
        error = describe(failure)
        raise
    finally:
        seconds = round(time.monotonic() - begin, 3)
        written = outputs if status == "ok" else {}
        _record(
            {"event": "end", "name": name, "status": status, "seconds": seconds, "error": error, "outputs": written}
        )
        sys.stdout.flush()
        print(f"{END}{name}: {status}, {seconds:.1f} s" + (f"\n{END}{error}" if error else ""), flush=True)


def describe(error: BaseException) -> str:
    """The line to show for an error: bare for our own exceptions, with the type's name for any other."""
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()).replace(":; ", ": ")
    return text if isinstance(error, ProjectError) and text else reason(error)


def scalars(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers in nested plain data, by dotted name: what a Metrics artifact can show.

    >>> scalars({"train": {"loss": 1.5}, "kind": "bpe"})
    {'train.loss': 1.5}
    """
    from evaluation.results import finite

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


def _record(event: dict[str, Any]) -> None:
    if path := os.environ.get(STEPS_VARIABLE):
        # One short write in append mode, so that steps that run side by side do not mix their lines.
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
