"""What a run's last step tells of the whole: kept beside the bundle, and in its log for whoever waits elsewhere."""

import json
import os
from pathlib import Path
from typing import Any

from components.step import STEPS_VARIABLE
from components.summary_line import print_summary

Json = dict[str, Any]


def figures(verdict: str) -> Json:
    """The figures of the run, as the gate has gathered them beside its verdict."""
    found: Json = json.loads(Path(verdict, "summary.json").read_text(encoding="utf-8"))
    return found


def hand_over(verdict: str, published: Json | None) -> None:
    """Print the summary's line, but for a runner that reads the artifacts themselves."""
    if not os.environ.get(STEPS_VARIABLE):
        print_summary({**figures(verdict), "published": published})


def reports(verdict: str, run_id: str) -> dict[str, str]:
    """The texts that are kept in the store beside a run's bundle, by name."""
    return {
        "summary.json": json.dumps({"run_id": run_id, **figures(verdict)}, ensure_ascii=False, indent=1),
        "verdict.json": Path(verdict, "verdict.json").read_text(encoding="utf-8"),
    }
