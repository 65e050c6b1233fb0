"""Running the pipeline in sub-processes of this machine, quietly, through Kubeflow's own local runner.

Kubeflow prints a page of JSON per step; all of it goes to a log file, and only what a step says between its two marks
(components/step.py) reaches the terminal, as it is said.

Kubeflow's runner also looks for placeholders in the values of arguments, writes the interpreter's path over every
"python3" in them, and that path, unquoted, into a line of shell. So a corpus python3-docs.tsv was not found, the files
of a run in python3-runs/ went elsewhere, and nothing ran in a folder with a blank in its name. Here the only
placeholder of our steps is filled in, no text is replaced, there is no shell, and the arguments, which may be longer
than a command line, are handed over in a file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import psutil
from kfp import local
from kfp.dsl import PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
from kfp.local import placeholder_utils, subprocess_task_handler
from kfp.local.status import Status

from components.step import END, START, STEPS_VARIABLE
from pipelines.pipeline import pipeline

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_KUBEFLOW = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - [A-Z]+ - ")
_CHATTER = re.compile(r"\[KFP Executor .* (INFO|DEBUG)\]: ")  # any library's logging, in Kubeflow's format
# Kubeflow's own entry point, which its shell line starts by `python3 -m`.
_MAIN = """
import json, sys
from pathlib import Path
from kfp.dsl.executor_main import executor_main
sys.argv[1:] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
executor_main()
"""


class StepLines(io.TextIOBase):
    """A text stream that keeps everything in ``log`` and shows the lines of steps on ``terminal``."""

    def __init__(self, log: TextIO, terminal: TextIO) -> None:
        self._log, self._terminal = log, terminal
        self._pending = ""
        self._inside = False

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


class StepProcess(subprocess_task_handler.SubprocessTaskHandler):
    """Runs a lightweight component's function in a process of this interpreter."""

    def run(self) -> Status:
        """Wait for the step; what it prints is passed on as it comes."""
        _shell, _option, _line, source, *arguments = self.full_command
        with tempfile.TemporaryDirectory(prefix="step-") as folder:
            module, handed = Path(folder, "component.py"), Path(folder, "arguments.json")
            module.write_text(source, encoding="utf-8")
            handed.write_text(json.dumps(["--component_module_path", str(module), *arguments]), encoding="utf-8")
            code = subprocess_task_handler.run_local_subprocess(
                [sys.executable, "-c", _MAIN, str(handed)],
                # What a person has set for himself comes before what the pipeline sets for a cluster.
                {**self.env_vars, **os.environ, "_KFP_RUNTIME": "true"},
            )
        return Status.SUCCESS if code == 0 else Status.FAILURE


def fill_in(full_command: list[str], executor_input_dict: dict[str, Any], **_: Any) -> list[str]:
    """A step's command, with its inputs and outputs as JSON where the command asks for them."""
    asked = PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
    return [json.dumps(executor_input_dict) if part == asked else part for part in full_command]


def install() -> None:
    """Make Kubeflow's local runner start steps this way."""
    subprocess_task_handler.SubprocessTaskHandler = StepProcess
    placeholder_utils.replace_placeholders = fill_in


def run_locally(arguments: Mapping[str, Any], run_dir: Path, steps: Path) -> None:
    """Run every step in its own process, one after the other, with its artifacts under ``run_dir``/artifacts.

    Args:
        arguments: The pipeline's parameters.
        run_dir: The run's folder; Kubeflow's log is kept there as kfp.log.
        steps: File that the steps append their records to.

    Raises:
        RuntimeError: where a step failed; which one and why is in ``steps``.
        KeyboardInterrupt: after the running step has been stopped.
    """
    install()
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
            raise RuntimeError(f"{_ANSI.sub('', str(error))} See {run_dir / 'kfp.log'}") from None
        finally:
            lines.write("\n")


def _stop_children() -> None:
    """End the processes of the running step: they may have had Ctrl-C as well, then they are asked, then killed."""
    children = psutil.Process().children(recursive=True)
    for end, patience in ((psutil.Process.terminate, 1), (psutil.Process.kill, 10)):
        _, children = psutil.wait_procs(children, timeout=patience)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(child)
