"""A process of ours that measures when it is asked to: one line of JSON in, one line out.

Each competitor has its own, as libraries bring thread pools of their own, and CPU time and memory are a process's.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, BenchmarkError


class Worker:
    """A running process; ``name`` is what an error calls it, ``log`` gets what it says on standard error."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self._log = name, log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Begin one measurement."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it found; the first answer comes unasked, once it has loaded.

        Raises:
            BenchmarkError: with the process's last words when it has died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name} has failed:\n{self._log.read_text('utf-8', 'replace')[-3000:]}")
        return json.loads(line)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One measurement."""
        self.ask(request)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
