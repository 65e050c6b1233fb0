"""What a process says on the network, by strace: this sees compiled code too, which Python's own hooks do not.

tracer(tmp_path / "trace") is a program that runs Python with its network calls written to that file
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=network"]
# ONNX Runtime reports nothing from where one of these is set; a person's machine has none of them.
CONTINUOUS_INTEGRATION = (
    "CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID",
    "BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER",
)  # fmt: skip
LOOK_UP = re.compile(r"htons\((53|443)\)|/run/systemd/resolve")


def tracer(out: Path) -> Path:
    """The program; the process stays the caller's own child, so that signals reach it."""
    script = out.with_suffix(".sh")
    command = shlex.join([*STRACE, "-D", "-o", str(out), sys.executable])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return script


def may_trace(folder: Path) -> bool:
    """Whether strace is there and this machine lets it look."""
    if not shutil.which("strace"):
        return False
    command = [*STRACE, "-o", str(folder / "try.trace"), sys.executable, "-c", "import socket; socket.socket().close()"]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0 and "socket(" in (folder / "try.trace").read_text()
