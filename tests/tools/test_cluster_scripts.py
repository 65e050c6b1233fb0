"""The scripts that make a cluster: they parse, and say what they lack. What they install was not run by any test."""

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "cluster"


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_no_cluster_is_said():
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([FOLDER / "install.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "KUBECONFIG names no cluster: export it, or make cluster\n"


def test_a_missing_program_is_named(tmp_path):
    for program in ("bash", "dirname", "env"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    (tmp_path / "docker").symlink_to("/usr/bin/true")
    done = subprocess.run(
        [FOLDER / "kind.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("make cluster needs kind: ")
