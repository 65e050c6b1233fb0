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
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any, TextIO

import psutil
from kfp import local
from kfp.dsl import PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
from kfp.dsl.base_component import BaseComponent
from kfp.local import executor_input_utils, logging_utils, placeholder_utils, subprocess_task_handler
from kfp.local.status import Status

from components.step import END, START, STEPS_VARIABLE
from pipelines.folder import LOCK
from pipelines.pipeline import define
from pipelines.reuse import run_once

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE = 60.0  # seconds for a step that is asked to end; asked again, by another Ctrl-C, it ends at once
_CHATTER = re.compile(r"\[KFP Executor .* (INFO|DEBUG)\]: ")  # any library's logging, in Kubeflow's format
# Kubeflow's own entry point, which its shell line starts by `python3 -m`. A step ends with its runner, kill -9 and all,
# in a container too: the runner holds a lock for as long as it lives. Where the first try gets it, locks tell nothing.
MAIN = """
import contextlib, fcntl, json, os, sys, threading
from pathlib import Path

def end_with_the_runner(path):
    with contextlib.suppress(OSError), open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
            os._exit(137)

handed = json.loads(Path(sys.argv[1]).read_text("utf-8"))
threading.Thread(target=end_with_the_runner, args=(handed["lock"],), daemon=True).start()
sys.path[0], sys.argv[1:] = os.getcwd(), handed["arguments"]
if os.path.isdir(handed["folder"]):
    os.chdir(handed["folder"])
from kfp.dsl.executor_main import executor_main
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


@contextlib.contextmanager
def handed_over(full_command: Sequence[str], pipeline_root: str) -> Iterator[Path]:
    """What MAIN is to do for a component's command, in a file that is there for as long as the body runs."""
    _shell, _option, _line, source, *arguments = full_command
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        module, handed = Path(folder, "component.py"), Path(folder, "handed.json")
        module.write_text(source, encoding="utf-8")
        arguments = ["--component_module_path", str(module), *arguments]
        lock = os.path.join(os.path.dirname(pipeline_root), LOCK)
        whole = {"arguments": arguments, "folder": os.getcwd(), "lock": lock}
        handed.write_text(json.dumps(whole), encoding="utf-8")
        yield handed


class StepProcess(subprocess_task_handler.SubprocessTaskHandler):
    """Runs a lightweight component's function in a process of this interpreter."""

    terminal: TextIO = sys.stdout

    def run(self) -> Status:
        """Run the step, unless what it made before can be used again."""
        return run_once(self.full_command, self.pipeline_root, self.terminal, self._run)

    def _run(self) -> Status:
        """Wait for the step; what it prints is passed on as it comes."""
        # What a person has set for himself comes before what the pipeline sets for a cluster.
        environment = {**self.env_vars, **os.environ, "_KFP_RUNTIME": "true"}
        with handed_over(self.full_command, self.pipeline_root) as handed:
            command = [sys.executable, "-c", MAIN, str(handed)]
            with Popen(
                command, env=environment, stdout=PIPE, stderr=STDOUT, encoding="utf-8", errors="replace"
            ) as process:
                try:
                    pass_on(process.stdout or (), self.terminal)
                except KeyboardInterrupt:
                    self._let_end(process)
                    raise
                except Exception:  # the log's disk is full: nobody would hear the step any more
                    process.kill()
                    raise
        return Status.SUCCESS if process.returncode == 0 else Status.FAILURE

    def _let_end(self, process: Popen[str]) -> None:
        """Ask the step to end, and hear it out: training has something to save (model/training/ending.py)."""
        process.terminate()
        enough = threading.Timer(PATIENCE, _stop_children)
        enough.start()
        try:
            pass_on(process.stdout or (), self.terminal)
        finally:
            enough.cancel()


def fill_in(full_command: list[str], executor_input_dict: dict[str, Any], **_: Any) -> list[str]:
    """A step's command, with its inputs and outputs as JSON where the command asks for them."""
    asked = PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
    return [json.dumps(executor_input_dict) if part == asked else part for part in full_command]


def install(terminal: TextIO) -> None:
    """Make Kubeflow's local runner start steps this way, in folders of the same names each time, without colours."""
    StepProcess.terminal = terminal
    executor_input_utils.get_local_pipeline_resource_name = lambda name: name
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
    with environment({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", STEPS_VARIABLE: str(steps)}):
        try:
            run_by(local.SubprocessRunner(use_venv=False), define(teacher=arguments["teacher"]), arguments, run_dir)
        except KeyboardInterrupt:
            _stop_children()
            raise


def run_by(
    runner: local.SubprocessRunner | local.DockerRunner,
    pipeline: BaseComponent,
    arguments: Mapping[str, Any],
    run_dir: Path,
) -> None:
    """Run the pipeline by one of Kubeflow's runners; all that it says is kept as kfp.log.

    Raises:
        RuntimeError: where a step failed.
    """
    # A second attempt helps when a cluster's node dies; on one machine it meets the same error again.
    for component in (pipeline.pipeline_spec.root, *pipeline.pipeline_spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    with (
        open(run_dir / "kfp.log", "a", 1, encoding="utf-8") as log,
        warnings.catch_warnings(),
        temporary_files_in(run_dir / "tmp"),
    ):
        warnings.filterwarnings("ignore", ".*(have no effect in the current local runner|non-Python base image)")
        local.init(runner=runner, pipeline_root=str(run_dir / "artifacts"), raise_on_error=True, enable_caching=False)
        try:
            with contextlib.redirect_stdout(log):
                pipeline(**arguments)
        except RuntimeError as error:
            raise RuntimeError(f"{error} See {run_dir / 'kfp.log'}") from None


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables for a while, as have all processes that begin then; afterwards, what was there before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Have this process and its children make their temporary files in a folder, which is removed with them."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True, exist_ok=True)
    with environment({"TMPDIR": str(folder.absolute())}):
        tempfile.tempdir = os.environ["TMPDIR"]
        try:
            yield
        finally:
            tempfile.tempdir = None
            shutil.rmtree(folder, ignore_errors=True)


def _stop_children() -> None:
    """End the processes of the running step: they may have had Ctrl-C as well, then they are asked, then killed."""
    children = psutil.Process().children(recursive=True)
    for end, patience in ((psutil.Process.terminate, 1), (psutil.Process.kill, 10)):
        _, children = psutil.wait_procs(children, timeout=patience)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(child)
