"""What every test shares: the repository on the path, and runs that are not tracked."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from hypothesis import HealthCheck, settings  # noqa: E402

import model  # noqa: E402, F401  # settles threads and telemetry, before a test imports a library

os.environ["PROMETHEUS_TRACKING"] = "off"

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
