"""What every test shares: the repository on the path, and runs that are not tracked."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import model.processors  # noqa: E402, F401  # settles the threads of libraries, before a test imports torch

os.environ.setdefault("PROMETHEUS_TRACKING", "off")

import model  # noqa: E402, F401 - sets the environment before a test imports a library
