"""Ten minutes of everything at once, on the real server: does it leak, does it fail?

128 clients speak every protocol with prompts and outputs of any length; one call in ten is abandoned midway, one in
twenty is bad input. Nothing may answer 5xx, nothing good may be refused, at the end every slot, queue place and
connection is free again, and the resident memory of the second half is flat.

    make soak                                   # writes results/soak.json
    python -m benchmarks.load.soak --seconds 30 --bundle runs/latest/bundle --out /tmp/soak.json
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import psutil

from benchmarks.load.calls import HOST, BadAnswer, Calls, Left
from benchmarks.load.client import Client, StatusError, get_json
from benchmarks.load.server import ServerProcess
from benchmarks.load.trial import conclude, p95, trial_parser
from benchmarks.machine import markdown
from model.options import Parser, read_settings, run
from model.settings import Count, Natural, Settings, setting

ABANDONED, BAD = 0.10, 0.05
SAMPLE_SECONDS = 0.5
GROWTH_SHARE, GROWTH_MB = 0.02, 8.0  # of the resident memory between the third and the last quarter: what is flat
IDLE_SECONDS = 15.0  # within which everything has to be free again


class SoakSettings(Settings):
    """How long and by how many the server is loaded."""

    seconds: float = setting(600.0, "How long the load lasts.", "seconds", gt=0)
    clients: Count = setting(128, "How many call at the same time.")
    seed: Natural = setting(0, "Seed of what they call.")


async def soak(http_port: int, grpc_port: int, pid: int, seconds: float, clients: int, seed: int = 0) -> dict[str, Any]:
    """Load a running server; what happened, with ``problems``, which is empty when all is well."""
    calls = Calls(http_port, grpc_port, await get_json(HOST, http_port, "/info"))
    process = psutil.Process(pid)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in calls.kinds}
    seen: dict[str, list[float]] = {kind: [] for kind in calls.kinds}
    mistakes: list[str] = []
    samples: list[dict[str, float]] = []
    before = process.num_fds()
    started = time.monotonic()
    over = started + seconds

    async def client(number: int) -> None:
        dice = random.Random(f"{seed}-{number}")
        await asyncio.sleep(dice.random() * min(2.0, seconds / 10))
        async with Client(HOST, http_port) as connection:
            while time.monotonic() < over:
                kind = dice.choice(calls.kinds)
                draw = dice.random()
                manner = "bad" if draw < BAD else "abandoned" if draw < BAD + ABANDONED else "good"
                began = time.monotonic()
                try:
                    outcome = await calls.make(kind, manner, connection, dice)
                    if outcome == "ok":
                        seen[kind].append(time.monotonic() - began)
                except Left:
                    outcome = "abandoned"
                except StatusError as error:
                    outcome = str(error.status)
                    if error.status != 429:
                        mistakes.append(f"{kind}, {manner}: {error}")
                except (BadAnswer, ConnectionError, OSError) as error:
                    outcome = type(error).__name__
                    mistakes.append(f"{kind}, {manner}: {type(error).__name__}: {error}")
                    connection.abort()
                outcomes[kind][outcome] += 1

    async def watch() -> None:
        while time.monotonic() < over:
            state = await _engine(http_port)
            samples.append(
                {
                    "at": round(time.monotonic() - started, 2),
                    "rss_mb": round(process.memory_info().rss / 1e6, 2),
                    "fds": process.num_fds(),
                    "running": state.get("running", -1),
                    "waiting": state.get("waiting", -1),
                }
            )
            await asyncio.sleep(SAMPLE_SECONDS)

    watcher = asyncio.ensure_future(watch())
    await asyncio.gather(*(client(number) for number in range(clients)))
    await watcher
    await calls.close()
    left = await _settle(http_port, process, before)
    memory = flatness([sample["rss_mb"] for sample in samples])
    problems = [*mistakes[:20]]
    if len(mistakes) > 20:
        problems.append(f"and {len(mistakes) - 20} more")
    problems += [f"{name} is {value} after the load, not {wanted}" for name, (value, wanted) in left.items()]
    if memory["growth_mb"] > memory["allowed_mb"]:
        problems.append(
            f"resident memory grew by {memory['growth_mb']:.1f} MB in the second half, from {memory['third_mb']:.1f}"
        )
    return {
        "seconds": round(time.monotonic() - started, 1),
        "clients": clients,
        "calls": sum(sum(counter.values()) for counter in outcomes.values()),
        "outcomes": {kind: dict(counter) for kind, counter in outcomes.items()},
        "seconds_per_call": {kind: _summary(values) for kind, values in seen.items() if values},
        "memory": memory,
        "most_running": max((sample["running"] for sample in samples), default=0),
        "samples": samples[:: max(1, len(samples) // 120)],
        "problems": problems,
    }


def flatness(rss_mb: list[float]) -> dict[str, float]:
    """How much the resident memory grew between the third and the last quarter of the time."""
    quarter = max(1, len(rss_mb) // 4)
    third, last = median(rss_mb[-2 * quarter : -quarter] or rss_mb), median(rss_mb[-quarter:])
    return {
        "third_mb": round(third, 2),
        "last_mb": round(last, 2),
        "peak_mb": max(rss_mb),
        "growth_mb": round(last - third, 2),
        "allowed_mb": round(max(GROWTH_MB, GROWTH_SHARE * third), 2),
    }


async def _engine(port: int) -> dict[str, Any]:
    return (await get_json(HOST, port, "/health"))["engine"]


async def _settle(port: int, process: psutil.Process, fds: int) -> dict[str, tuple[float, float]]:
    """Wait until all is free; what is not: name -> (found, wanted)."""
    left: dict[str, tuple[float, float]] = {}
    until = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < until:
        state = await _engine(port)
        found = {
            "running": (state["running"], 0),
            "waiting": (state["waiting"], 0),
            "slots": (state.get("slots_used", 0), 0),
            # the connection that asked for /health may still be closing, and libraries keep a few of their own
            "fds": (process.num_fds(), fds + 8),
        }
        left = {name: (value, wanted) for name, (value, wanted) in found.items() if value > wanted}
        if not left:
            break
        await asyncio.sleep(0.2)
    return left


def _summary(values: list[float]) -> dict[str, float]:
    return {"calls": len(values), "mean": round(mean(values), 4), "p95": p95(values)}


def soak_table(result: dict[str, Any]) -> str:
    """Markdown: what was called and how it ended."""
    head = ["protocol", "ok", "refused as bad input", "abandoned", "429", "other", "p95, s"]
    rows = []
    for kind, counts in result["outcomes"].items():
        named = ("ok", "bad input refused", "abandoned", "429")
        ended = [f"{counts.get(name, 0):,}" for name in named]
        other = sum(count for name, count in counts.items() if name not in named)
        slowest = result["seconds_per_call"].get(kind, {}).get("p95", 0)
        rows.append([kind, *ended, f"{other:,}", f"{slowest:.2f}"])
    memory = result["memory"]
    verdict = "nothing failed, nothing leaked" if not result["problems"] else "; ".join(result["problems"])
    return (
        f"{markdown(head, rows)}\n\n"
        f"{result['calls']:,} calls by {result['clients']} clients in {result['seconds']:.0f} s. Resident "
        f"memory {memory['third_mb']:.0f} MB in the third quarter, {memory['last_mb']:.0f} MB in the last (peak "
        f"{memory['peak_mb']:.0f} MB). Verdict: {verdict}."
    )


def parser() -> Parser:
    """What to serve, and how hard to try it."""
    return trial_parser("soak", __doc__, SoakSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve, load, and judge."""
    options = parser().parse_args(argv)
    given = read_settings(SoakSettings, options)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(options.bundle, Path(folder) / "log") as server:
        ports = server.http_port, server.grpc_port
        result = asyncio.run(soak(*ports, server.pid, given.seconds, given.clients, given.seed))
    return conclude("soak", result, options.out, soak_table(result))


if __name__ == "__main__":
    sys.exit(run(main))
