"""Real predictors for the pods of a fake cluster: one process for each bundle, shared by all pods that are made of it.

A server takes seconds to start, and a pod is made at every release; what a server answers does not depend on which pod
asked for it. One that ends by itself, as over a damaged bundle, is run once: its status and its log are every such
pod's.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from tests.helpers.servers import ROOT, free_ports


class Predictor:
    """A ``python -m serving`` process."""

    def __init__(self, bundle: Path, options: list[str]) -> None:
        self.port, grpc = free_ports(2)
        self.log, self.up = "", False
        command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--http_port", str(self.port)]
        command += ["--grpc_port", str(grpc), "--threads", "1", "--drain_delay", "0", *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.log += line

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def ready(self) -> bool:
        """Whether it takes traffic; one that ever did does so until it ends."""
        if self.status is None and not self.up:
            self.up = self.ask("GET", "/health/ready")[0] == 200
        return self.up and self.status is None

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """One call; status 503 where nobody answers."""
        headers = {"content-type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 503, f"error trying to reach service: {error}".encode()


class Predictors:
    """Those that a test session has started."""

    def __init__(self) -> None:
        self.started: dict[tuple[str, ...], Predictor] = {}

    def of(self, bundle: Path, *options: str) -> Predictor:
        """The one that serves a bundle with these options."""
        key = (str(bundle.resolve()), *options)
        if key not in self.started:
            self.started[key] = Predictor(bundle, list(options))
        return self.started[key]

    def close(self) -> None:
        """End them all."""
        for each in self.started.values():
            each.process.terminate()
        for each in self.started.values():
            each.process.wait(60)
