"""How many pods a rate takes, and what they cost, from what one server was measured to do (results/http.json).

Nothing is measured here. One pod's most is what 100 streams at once got out of one server; the rest is division, with
the assumptions as options. docs/capacity.md shows the table for the defaults.

    python -m benchmarks.capacity                      # 1, 100 and 10,000 a second
    python -m benchmarks.capacity --rate 250 --price 0.05
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from benchmarks.machine import RESULTS, markdown
from evaluation.figures import processor
from model.options import OK, Parser, read_settings, run
from model.settings import Settings, setting

Positive = Annotated[float, Field(gt=0, le=1e9)]
RATES = (1.0, 100.0, 10_000.0)
HOURS_A_MONTH = 730.0
GIB = 2**30
# What a pod of k8s/production asks for; tests/benchmarks/test_capacity.py reads them there.
POD_CORES, POD_GIB = 1.0, 0.5


class CapacitySettings(Settings):
    """What is asked for, and what is assumed."""

    rate: list[Positive] = setting(list(RATES), "Translations a second; repeatable.")
    tokens: Positive = setting(50.0, "Tokens of a translation; those measured had 50.")
    utilisation: float = setting(
        0.6, "Share of a pod's most that is planned with, so that peaks and a lost pod have room.", gt=0, le=1
    )
    least: int = setting(2, "Pods that there are at any rate, so that one may go.", ge=1, le=1000)
    price: Positive = setting(
        0.04, "Dollars for a core and its memory for an hour: an assumption, your cloud has its own."
    )


@dataclass(frozen=True)
class Plan:
    """What a rate takes; cores, GiB, dollars a month and for a million translations."""

    rate: float
    pods: int
    busy_cores: float
    cores: float
    memory_gib: float
    under_way: float  # requests, over all pods
    dollars_a_month: float
    dollars_a_million: float


def most_per_pod(measured: dict[str, Any], tokens: float) -> float:
    """Translations a second that one server made of 100 streams at once."""
    return float(measured["streams"]["tokens_per_second"]) / tokens


def plan(measured: dict[str, Any], rate: float, settings: CapacitySettings) -> Plan:
    """What a rate takes, by the figures of results/http.json."""
    streams = measured["streams"]
    planned = most_per_pod(measured, settings.tokens) * settings.utilisation
    pods = max(settings.least, math.ceil(rate / planned))
    hour = pods * POD_CORES * settings.price
    return Plan(
        rate,
        pods,
        rate * settings.tokens * streams["server_cpu_us_per_token"] / 1e6,
        pods * POD_CORES,
        pods * POD_GIB,
        rate * streams["request"]["p50"],  # Little's law
        hour * HOURS_A_MONTH,
        hour / (rate * 3600) * 1e6,
    )


def capacity_table(measured: dict[str, Any], settings: CapacitySettings | None = None) -> str:
    """Markdown: a line for each rate, and what it rests on."""
    settings = settings or CapacitySettings()
    head = ["translations a second", "pods", "cores busy", "cores asked for", "memory asked for, GiB"]
    head += ["requests under way", "dollars a month", "dollars a million"]
    rows = [
        [
            f"{each.rate:,.10g}",
            f"{each.pods:,}",
            f"{each.busy_cores:,.3g}",
            f"{each.cores:,.10g}",
            f"{each.memory_gib:,.10g}",
            f"{each.under_way:,.3g}" if each.under_way < 1000 else f"{each.under_way:,.0f}",
            f"{each.dollars_a_month:,.0f}",
            f"{each.dollars_a_million:,.2f}",
        ]
        for each in (plan(measured, rate, settings) for rate in settings.rate)
    ]
    streams, machine = measured["streams"], measured["machine"]
    at_most = most_per_pod(measured, settings.tokens)
    busy = streams["tokens_per_second"] * streams["server_cpu_us_per_token"] / 1e6
    caption = (
        f"Translations of {settings.tokens:g} tokens. One server's most: {at_most:,.0f} a second with "
        f"{streams['streams']} at once, on {busy:.2f} cores, 95 of 100 within {streams['request']['p95']:.2f} s; "
        f"planned with {settings.utilisation:.0%} of it, at least {settings.least} pods. A pod asks for {POD_CORES:g} "
        f"core and {POD_GIB:g} GiB ({measured['memory']['peak_mb']:.0f} MB were used at most). Assumed: "
        f"{settings.price:g} dollars for a core and an hour. Measured with {measured['bundle']['precision']}, "
        f"{processor(machine)}, clients on the same machine, {measured['date'][:10]}."
    )
    return f"{markdown(head, rows)}\n\n{caption}"


def parser() -> Parser:
    """What is asked for, and what is assumed."""
    made = Parser("benchmarks.capacity", __doc__)
    made.add_settings(CapacitySettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    settings = read_settings(CapacitySettings, parser().parse_args(argv))
    print(capacity_table(json.loads((RESULTS / "http.json").read_text("utf-8")), settings))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
