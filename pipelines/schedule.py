"""Recurring runs on Kubeflow: when they start, and looking after them. `pipelines.submit --every 12h` makes one.

python -m pipelines.schedule --host http://localhost:8888
python -m pipelines.schedule --host http://localhost:8888 --disable 5b9e8a1c-...
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.figures import aligned
from model.config import ConfigError
from model.options import OK, Parser, run
from pipelines.kubeflow import Json, Kubeflow, add_connection, connect

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CRON = re.compile(r"[\dA-Za-z*/,?-]+( [\dA-Za-z*/,?-]+){4,5}$")


def trigger(every: str) -> Json:
    """When a recurring run starts, as Kubeflow's v2beta1.Trigger.

    A crontab's five fields get Kubeflow's first one, seconds, in front: it would take five fields for the first five of
    its six.

    >>> trigger("0 2 * * *")
    {'cron_schedule': {'cron': '0 0 2 * * *'}}
    >>> trigger("12h")
    {'periodic_schedule': {'interval_second': '43200'}}

    Raises:
        ConfigError: where it is neither a schedule nor an interval.
    """
    every = " ".join(every.split())
    if match := re.fullmatch(r"([1-9]\d*) ?([smhd])", every):
        return {"periodic_schedule": {"interval_second": str(int(match[1]) * _SECONDS[match[2]])}}
    if _CRON.match(every):
        return {"cron_schedule": {"cron": every if every.count(" ") == 5 else f"0 {every}"}}
    raise ConfigError(
        f"{every!r} is no schedule: expected 12h or 30m, or cron, as '0 2 * * *' for every night at two, in UTC unless "
        "Kubeflow is set to another zone"
    )


def when(recurring: Mapping[str, Any]) -> str:
    """The schedule of a recurring run, in words."""
    kind = recurring.get("trigger") or {}
    cron = (kind.get("cron_schedule") or {}).get("cron")
    seconds = (kind.get("periodic_schedule") or {}).get("interval_second")
    return str(cron) if cron else f"every {seconds} s" if seconds else "?"


def parser() -> Parser:
    """The command line."""
    made = Parser("pipelines.schedule", "List the recurring runs on a Kubeflow, or change one; runs that began go on.")
    add_connection(made)
    change = made.add_mutually_exclusive_group()
    for name in ("enable", "disable", "delete"):
        change.add_argument(f"--{name}", metavar="ID", help=f"{name} the recurring run of this id")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Change what is asked, and print the list."""
    options = parser().parse_args(argv)
    kubeflow = connect(options)
    for change in ("enable", "disable", "delete"):
        if asked := getattr(options, change):
            kubeflow.change_recurring(asked, change)
    print(table(kubeflow))
    return OK


def table(kubeflow: Kubeflow) -> str:
    """One line a recurring run."""
    rows = [
        [each["recurring_run_id"], each.get("display_name", ""), when(each), str(each.get("status", "")).lower()]
        for each in kubeflow.recurring()
    ]
    return aligned(["id", "name", "starts", "status"], rows, left=4) or "no recurring runs"


if __name__ == "__main__":
    sys.exit(run(main))
