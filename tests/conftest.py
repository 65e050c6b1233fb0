"""What every test shares: the repository on the path, and runs that are not tracked."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PROMETHEUS_TRACKING", "off")
