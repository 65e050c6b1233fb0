"""The process of a step, started with the arguments as they are: whatever a person may name arrives as it was written.

Kubeflow's local runner looks for placeholders in the values too, writes the interpreter's path over every "python3" in
them, and that path, unquoted, into a line of shell. So a corpus python3-docs.tsv was not found, the files of a run in
python3-runs/ went elsewhere, and nothing ran in a folder with a blank in its name. Here the only placeholder of our
steps is filled in, no text is replaced, there is no shell, and the arguments, which may be longer than a command line,
are handed over in a file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from kfp.dsl import PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
from kfp.local import placeholder_utils, subprocess_task_handler
from kfp.local.status import Status

# Kubeflow's own entry point, which its shell line starts by `python3 -m`.
_MAIN = """
import json, sys
from pathlib import Path
from kfp.dsl.executor_main import executor_main
sys.argv[1:] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
executor_main()
"""


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
