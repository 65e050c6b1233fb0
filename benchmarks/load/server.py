"""The real server in a process of its own, and what it costs: start, CPU, memory, file descriptors.

with ServerProcess(Path("runs/latest/bundle"), Path("/tmp/server.log")) as server: print(server.start_seconds)
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import ROOT, BenchmarkError
from model.bundle import Bundle

START_TIMEOUT = 600.0  # seconds; a hang ends by it, a machine that is busy starts four of them in minutes


class ServerProcess:
    """``python -m serving`` on free ports of the loopback, from its start until the block ends.

    Attributes:
        start_seconds: from the process's start until it was ready.
    """

    def __init__(self, bundle: Path, log: Path, *options: str) -> None:
        Bundle.load(bundle, verify=False)  # says what is wrong in a sentence, where a server leaves a log
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log = log
        command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--http_port", str(self.http_port)]
        command += ["--grpc_port", str(self.grpc_port), *options]
        started = time.perf_counter()
        with log.open("w") as out:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        self._usage = psutil.Process(self._process.pid)
        try:
            while not self._ready():
                if self._process.poll() is not None:
                    raise BenchmarkError(f"the server has left:\n{log.read_text('utf-8', 'replace')[-3000:]}")
                if time.perf_counter() - started > START_TIMEOUT:
                    raise BenchmarkError(f"the server is not ready after {START_TIMEOUT:.0f} s; its log is {log}")
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - started

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time used so far, of all threads: in nanoseconds where the kernel counts them, else in its ticks."""
        try:
            tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        except (OSError, ValueError, IndexError):
            pass
        times = self._usage.cpu_times()
        return times.user + times.system

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory now, and its peak where the system tells, in MB (10^6 bytes)."""
        now = self._usage.memory_info().rss / 1e6
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return now, now
        peak = next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), now)
        return now, peak

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait()

    def wait(self, seconds: float = 60) -> int:
        """The exit status of a server that was told to leave; one that stays is killed."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)  # asks no proxy
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
