"""What every test shares: the repository on the path, and runs that are not tracked."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import model  # noqa: E402, F401  # settles threads and telemetry, before a test imports a library

os.environ.setdefault("PROMETHEUS_TRACKING", "off")
