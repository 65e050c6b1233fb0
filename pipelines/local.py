"""Running the pipeline in sub-processes of this machine, quietly, through Kubeflow's own local runner.

Kubeflow prints a page of JSON per step; all of it goes to a log file, and only what a step says between its two marks
(components/step.py) reaches the terminal, as it is said.

Kubeflow's runner also looks for placeholders in the values of arguments, writes the interpreter's path over every
"python3" in them, and that path, unquoted, into a line of shell. So a corpus python3-docs.tsv was not found, the files
of a run in python3-runs/ went elsewhere, and nothing ran in a folder with a blank in its name. Here the only
placeholder of our steps is filled in, no text is replaced, there is no shell, and the arguments, which may be longer
than a command line, are handed over in a file.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any, TextIO

import psutil
from kfp import local
from kfp.dsl import PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
from kfp.local import logging_utils, placeholder_utils, subprocess_task_handler
from kfp.local.status import Status

from components.step import END, START, STEPS_VARIABLE
from pipelines.pipeline import pipeline

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = re.compile(r"\[KFP Executor .* (INFO|DEBUG)\]: ")  # any library's logging, in Kubeflow's format
# Kubeflow's own entry point, which its shell line starts by `python3 -m`.
_MAIN = """
import json, sys
from pathlib import Path
from kfp.dsl.executor_main import executor_main
sys.argv[1:] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
executor_main()
"""


def pass_on(lines: Iterable[str], terminal: TextIO) -> None:
    """Print what a step's process says, for the log; what the step says between its marks, on the terminal as well."""
    inside = False
    for line in lines:
        print(plain := _ANSI.sub("", line), end="")
        inside = inside or plain.startswith(START)
        if (inside and not _CHATTER.match(plain)) or plain.startswith(END):
            terminal.write(plain)
            terminal.flush()
        inside = inside and not plain.startswith(END)


class StepProcess(subprocess_task_handler.SubprocessTaskHandler):
    """Runs a lightweight component's function in a process of this interpreter."""

    terminal: TextIO = sys.stdout

    def run(self) -> Status:
        """Wait for the step; what it prints is passed on as it comes."""
        _shell, _option, _line, source, *arguments = self.full_command
        with tempfile.TemporaryDirectory(prefix="step-") as folder:
            module, handed = Path(folder, "component.py"), Path(folder, "arguments.json")
            module.write_text(source, encoding="utf-8")
            handed.write_text(json.dumps(["--component_module_path", str(module), *arguments]), encoding="utf-8")
            command = [sys.executable, "-c", _MAIN, str(handed)]
            # What a person has set for himself comes before what the pipeline sets for a cluster.
            environment = {**self.env_vars, **os.environ, "_KFP_RUNTIME": "true"}
            with Popen(
                command, env=environment, stdout=PIPE, stderr=STDOUT, encoding="utf-8", errors="replace"
            ) as process:
                pass_on(process.stdout or (), self.terminal)
        return Status.SUCCESS if process.returncode == 0 else Status.FAILURE


def fill_in(full_command: list[str], executor_input_dict: dict[str, Any], **_: Any) -> list[str]:
    """A step's command, with its inputs and outputs as JSON where the command asks for them."""
    asked = PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
    return [json.dumps(executor_input_dict) if part == asked else part for part in full_command]


def install(terminal: TextIO) -> None:
    """Make Kubeflow's local runner start steps this way, and write without colours."""
    StepProcess.terminal = terminal
    logging_utils.color_text = lambda text, color: text
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
    install(sys.stdout)
    # A second attempt helps when a cluster's node dies; on one machine it meets the same error again.
    for component in (pipeline.pipeline_spec.root, *pipeline.pipeline_spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    os.environ.update({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", STEPS_VARIABLE: str(steps)})
    with open(run_dir / "kfp.log", "w", 1, encoding="utf-8") as log, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(have no effect in the current local runner|non-Python base image)")
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run_dir / "artifacts"),
            raise_on_error=True,
            enable_caching=False,
        )
        try:
            with contextlib.redirect_stdout(log):
                pipeline(**arguments)
        except KeyboardInterrupt:
            _stop_children()
            raise
        except RuntimeError as error:
            raise RuntimeError(f"{error} See {run_dir / 'kfp.log'}") from None


def _stop_children() -> None:
    """End the processes of the running step: they may have had Ctrl-C as well, then they are asked, then killed."""
    children = psutil.Process().children(recursive=True)
    for end, patience in ((psutil.Process.terminate, 1), (psutil.Process.kill, 10)):
        _, children = psutil.wait_procs(children, timeout=patience)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(child)
