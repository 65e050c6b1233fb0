"""Running the pipeline in sub-processes of this machine, quietly, through Kubeflow's own local runner.

Kubeflow prints a page of JSON per step; all of it goes to a log file, and only what a step says between its two marks
(components/step.py) reaches the terminal, as it is said.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from components.step import END, START, STEPS_VARIABLE
from model.errors import ProjectError

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_KUBEFLOW = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - [A-Z]+ - ")
_CHATTER = re.compile(r"\[KFP Executor .* (INFO|DEBUG)\]: ")  # any library's logging, in Kubeflow's format


class RunError(ProjectError, RuntimeError):
    """A run in which a step failed."""


class StepLines(io.TextIOBase):
    """A text stream that keeps everything in ``log`` and shows the lines of steps on ``terminal``."""

    def __init__(self, log: TextIO, terminal: TextIO) -> None:
        self._log, self._terminal = log, terminal
        self._pending = ""
        self._inside = False

    def writable(self) -> bool:
        """Always: it is a sink."""
        return True

    def write(self, text: str) -> int:
        """Take text in any portions; whole lines are judged."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._line(_ANSI.sub("", line))
        return len(text)

    def _line(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        said = line.removeprefix("    ")  # Kubeflow's indentation of what a step prints
        if said.startswith(START):
            self._inside = True
        elif _KUBEFLOW.match(line):
            self._inside = False  # a killed step never says its end
        if (self._inside and not _CHATTER.match(said)) or said.startswith(END):
            self._terminal.write(said + "\n")
            self._terminal.flush()
        if said.startswith(END):
            self._inside = False


def run_locally(arguments: Mapping[str, Any], run_dir: Path, steps: Path) -> None:
    """Run every step in its own process, one after the other, with its artifacts under ``run_dir``/artifacts.

    Args:
        arguments: The pipeline's parameters.
        run_dir: The run's folder; Kubeflow's log is kept there as kfp.log.
        steps: File that the steps append their records to.

    Raises:
        RunError: where a step failed; which one and why is in ``steps``.
        KeyboardInterrupt: after the running step has been stopped.
    """
    from kfp import local

    from pipelines import process
    from pipelines.pipeline import pipeline

    process.install()
    # A second attempt helps when a cluster's node dies; on one machine it meets the same error again.
    for component in (pipeline.pipeline_spec.root, *pipeline.pipeline_spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    os.environ.update({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", STEPS_VARIABLE: str(steps)})
    with open(run_dir / "kfp.log", "w", encoding="utf-8") as log, warnings.catch_warnings():
        for noise in (".*have no effect in the current local runner", ".*non-Python base image"):
            warnings.filterwarnings("ignore", message=noise)
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run_dir / "artifacts"),
            raise_on_error=True,
            enable_caching=False,
        )
        lines = StepLines(log, sys.stdout)
        try:
            with contextlib.redirect_stdout(lines):
                pipeline(**arguments)
        except KeyboardInterrupt:
            _stop_children()
            raise
        except RuntimeError as error:
            raise RunError(f"{_ANSI.sub('', str(error))} See {run_dir / 'kfp.log'}") from None
        finally:
            lines.write("\n")


def _stop_children() -> None:
    """End the processes of the running step: they may have had Ctrl-C as well, then they are asked, then killed."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for end, patience in ((psutil.Process.terminate, 1), (psutil.Process.kill, 10)):
        _, children = psutil.wait_procs(children, timeout=patience)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(child)
