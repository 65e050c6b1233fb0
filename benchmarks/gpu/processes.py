"""A part of the check in a process of its own: begun, waited for no longer than its time, and read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.folder import Prepared
from benchmarks.machine import ROOT, BenchmarkError

ASKED_SECONDS = 15.0  # from asking a part to end until it is killed
LAST_WORDS = 1500  # characters

Json = dict[str, Any]


class Part:
    """The process of a part, and where it writes: its log beside its folder, and its figures.

    A part has a group of its own, to end with all that it has begun; a part of a part belongs to its group.
    """

    def __init__(
        self, name: str, prepared: Prepared, seconds: float, work: Path, environment: dict[str, str] | None = None
    ) -> None:
        """Begin it; ``work`` is the folder that it may fill. A part of a part has a dot in its name."""
        self._leads = "." not in name
        work.mkdir(parents=True, exist_ok=True)
        self._log, self._out = work.with_suffix(".log"), work.with_suffix(".json")
        self._out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.gpu", "part", name, str(prepared.folder.resolve())]
        command += [f"--device={prepared.training.device}", f"--seconds={seconds}", f"--work={work.resolve()}"]
        variables = os.environ | {"PROMETHEUS_TRACKING": "off"} | (environment or {})
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"--out={self._out.resolve()}"],
                cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=self._leads,
            )  # fmt: skip

    def figures(self, seconds: float) -> Json:
        """What it has measured within so many seconds; after these it is asked to end, and then killed.

        Raises:
            BenchmarkError: with its last words, where it has measured nothing.
        """
        told = ""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            told = f"not done within {seconds:.0f} s; "
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(ASKED_SECONDS)
            status = self.kill()
        finally:
            self.kill()
        if not self._out.exists():
            raise BenchmarkError(f"{told}status {status}: {self.said()[-LAST_WORDS:].strip()}")
        return json.loads(self._out.read_text("utf-8"))

    def killed(self, seconds: float) -> None:
        """Wait for its end by SIGKILL, for so many seconds.

        Raises:
            BenchmarkError: where it ended otherwise, or did not.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(max(0.0, seconds)) == -signal.SIGKILL:
                return
        raise BenchmarkError(f"it was not killed but has status {self.kill()}: {self.said()[-LAST_WORDS:].strip()}")

    def kill(self) -> int:
        """End it as a machine that is switched off would, with all that it has begun; its status."""
        with contextlib.suppress(ProcessLookupError):
            if self._leads:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        return self.process.wait()

    def said(self) -> str:
        """All that was printed by this process, and by those that had the same folder before."""
        return self._log.read_text("utf-8", "replace")
