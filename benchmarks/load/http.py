"""What the server adds to the engine, measured on the real process: latency under 100 streams, CPU per call, start.

* 100 streams of 50 tokens at once: 95th percentile of the whole request and of the time to the first token.
* CPU of the server's process per unary call, minus that of the engine alone for the same requests one after another
  (same settings, this process, no HTTP): what the protocol costs.
* seconds from the start of the process until it is ready; resident memory with all slots used.

The bundle is one of 8.9 M random parameters that never ends a text (``benchmarks.serving.models``), because a trained
one would end its streams before the fiftieth token; ``--bundle`` takes another. The clients share the machine with the
server, as little of it as they can.

    python -m benchmarks.load.http --out results/http.json
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np

from benchmarks.load.client import Client
from benchmarks.load.messages import INFER, WHOLE, http_message, infer_request
from benchmarks.load.server import ServerProcess
from benchmarks.machine import RESULTS, ROOT, heading, keep, markdown
from benchmarks.serving.models import write_bundles
from benchmarks.serving.shapes import NETWORKS
from evaluation.figures import processor
from model.bundle import Bundle
from model.config import NetworkConfig
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Natural, Settings, setting
from serving.engine import Engine, EngineConfig, GenerationRequest

MODEL = "prometheus-mini"
HOST = "127.0.0.1"
GRPC = "v2 gRPC"
UNARY_TOKENS, UNARY_WORDS = 2, 2  # little work for the engine, so that the difference to it is exact
WORDS = ("open", "file", "not", "found", "press", "any", "key", "to", "go", "back", "and", "choose", "another", "name")
TARGETS = {  # name -> (most that it may be, unit, what it is)
    "request_p95": (2.0, "s", "whole request, 95th percentile"),
    "first_token_p95": (0.5, "s", "time to first token, 95th percentile"),
    "own_cpu": (0.5e-3, "s", "server's own CPU per unary call, the dearest of REST"),
    "own_cpu_grpc": (0.5e-3, "s", "server's own CPU per unary call, gRPC"),
    "start": (3.0, "s", "process start to ready, median"),
    "memory_mb": (400.0, "MB", "resident memory at its peak"),
}


class HttpSettings(Settings):
    """How much is asked of the server, and what it may take."""

    streams: Count = setting(100, "Streams at once.")
    tokens: Count = setting(50, "Length of each stream.", "tokens")
    rounds: Count = setting(5, "Rounds of streams; one more comes first and is not counted.")
    calls: Count = setting(300, "Unary calls of each protocol.")
    starts: Count = setting(3, "Starts of the server's process.")
    slots: Count = setting(EngineConfig().slots, "The engine's slots.")
    threads: Natural = setting(EngineConfig().threads, "The engine's threads, under streams.")


def prompts(count: int, seed: int, words: int = 8) -> list[str]:
    """Different texts of like length."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) for _ in range(count)]


async def stream_round(port: int, texts: list[str], tokens: int) -> list[dict[str, float]]:
    """Stream all texts at once, each over its own connection; seconds and events of each."""

    async def one(text: str) -> dict[str, float]:
        path, body, _ = http_message("/generate_stream", MODEL, text, {"target": "ru", "max_tokens": tokens})
        started, first, last = time.perf_counter(), 0.0, b"{}"
        async with Client(HOST, port) as client:
            async for event in client.events(path, body):
                first, last = first or time.perf_counter(), event
        ended = time.perf_counter()
        told = json.loads(last)
        if "generated_tokens" not in told:
            raise RuntimeError(f"a stream ended by {last[:300]!r}")
        return {"seconds": ended - started, "first": first - started, "tokens": told["generated_tokens"]}

    return list(await asyncio.gather(*(one(text) for text in texts)))


def measure_streams(server: ServerProcess, streams: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Percentiles over all streams of all rounds, after one round that is not counted."""
    asyncio.run(stream_round(server.http_port, prompts(streams, 99), tokens))
    seen: list[dict[str, float]] = []
    cpu, wall = server.cpu_seconds(), time.perf_counter()
    for turn in range(rounds):
        seen += asyncio.run(stream_round(server.http_port, prompts(streams, turn), tokens))
    cpu, wall = server.cpu_seconds() - cpu, time.perf_counter() - wall
    generated = sum(one["tokens"] for one in seen)
    return {
        "streams": streams,
        "rounds": rounds,
        "tokens_per_stream": generated / len(seen),
        "request": _percentiles([one["seconds"] for one in seen]),
        "first_token": _percentiles([one["first"] for one in seen]),
        "tokens_per_second": round(generated / wall, 1),
        "server_cpu_us_per_token": round(cpu / generated * 1e6, 1),
    }


def unary_calls(server: ServerProcess, tokens: int) -> dict[str, Callable[[Client, str], Awaitable[None]]]:
    """Name of a protocol -> a coroutine function that makes one call."""
    parameters = {"target": "ru", "max_tokens": tokens}
    infer = grpc.insecure_channel(f"{HOST}:{server.grpc_port}").unary_unary(INFER)

    def over_http(kind: str) -> Callable[[Client, str], Awaitable[None]]:
        async def call(client: Client, text: str) -> None:
            status, answer = await client.call("POST", *http_message(kind, MODEL, text, parameters))
            if status != 200:
                raise RuntimeError(f"{kind} answered {status}: {answer[:300]!r}")

        return call

    async def over_grpc(client: Client, text: str) -> None:
        infer(infer_request(MODEL, text, parameters), timeout=30)

    return {**{kind: over_http(kind) for kind in WHOLE}, GRPC: over_grpc}


def measure_unary(server: ServerProcess, engine: Engine, calls: int, tokens: int) -> dict[str, Any]:
    """CPU seconds per call, one call after another over one connection: the server's, the engine's, the difference."""
    texts = prompts(calls, 7, UNARY_WORDS)

    def alone() -> float:
        requests = [GenerationRequest(engine.prompt(text, target="ru"), max_tokens=tokens) for text in texts]
        before = time.process_time()
        for request in requests:
            engine.generate([request])
        return (time.process_time() - before) / calls

    async def through(call: Callable[[Client, str], Awaitable[None]]) -> float:
        async with Client(HOST, server.http_port) as client:
            for text in texts[: calls // 10]:
                await call(client, text)
            before = server.cpu_seconds()
            for text in texts:
                await call(client, text)
            return (server.cpu_seconds() - before) / calls

    alone()
    kinds = unary_calls(server, tokens)
    own: list[float] = []
    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(5):  # in turn, so that a busy moment hits both sides; the least of each counts
        own.append(alone())
        for name, call in kinds.items():
            seen[name].append(asyncio.run(through(call)))
    return {
        "calls": calls,
        "tokens": tokens,
        "engine_cpu": min(own),
        "server_cpu": {name: min(values) for name, values in seen.items()},
        "own_cpu": {name: min(values) - min(own) for name, values in seen.items()},
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {name: round(float(np.percentile(seconds, q)), 4) for name, q in (("p50", 50), ("p95", 95), ("max", 100))}


def measure(bundle: Path, given: HttpSettings) -> dict[str, Any]:
    """Everything; the result as it is written."""
    slots, threads = ["--slots", str(given.slots)], ["--threads", str(given.threads)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        starts = []
        for _ in range(given.starts):
            with ServerProcess(bundle, log, *slots, *threads) as server:
                starts.append(server.start_seconds)
                idle = server.memory_mb()[0]
        with ServerProcess(bundle, log, *slots, *threads) as server:
            streams = measure_streams(server, given.streams, given.tokens, given.rounds)
            now, peak = server.memory_mb()
            memory = {"idle_mb": round(idle, 1), "loaded_mb": round(now, 1), "peak_mb": round(peak, 1)}
        # One thread on both sides: what threads cost to wake each other varies by more than the difference sought.
        config = EngineConfig(slots=given.slots, threads=1, provider="cpu")
        with (
            ServerProcess(bundle, log, *slots, "--threads", "1") as server,
            Engine(Bundle.load(bundle), config) as engine,
        ):
            unary = measure_unary(server, engine, given.calls, UNARY_TOKENS)
    found = {
        "request_p95": streams["request"]["p95"],
        "first_token_p95": streams["first_token"]["p95"],
        "own_cpu": max(value for name, value in unary["own_cpu"].items() if name != GRPC),
        "own_cpu_grpc": unary["own_cpu"][GRPC],
        "start": median(starts),
        "memory_mb": memory["peak_mb"],
    }
    return {
        **heading("http"),
        "bundle": {"precision": Bundle.load(bundle).precision, "bytes": Bundle.load(bundle).bytes},
        "slots": given.slots,
        "threads": given.threads,
        "streams": streams,
        "unary": unary,
        "starts": [round(value, 3) for value in starts],
        "memory": memory,
        "targets": {name: {"found": round(value, 6), "must": TARGETS[name][0]} for name, value in found.items()},
    }


def http_table(result: dict[str, Any]) -> str:
    """Markdown: what must be, and what was found."""
    rows = []
    for name, (most, unit, text) in TARGETS.items():
        found = result["targets"][name]["found"]
        scale, shown = (1e3, "ms") if unit == "s" and most < 1 else (1.0, unit)
        mark = "" if found <= most else " (missed)"
        rows.append([text, f"{most * scale:g} {shown}", f"{found * scale:.3g} {shown}{mark}"])
    streams, unary, machine = result["streams"], result["unary"], result["machine"]
    own = ", ".join(f"{name} {value * 1e3:.2f}" for name, value in unary["own_cpu"].items())
    caption = (
        f"{streams['streams']} concurrent streams of {streams['tokens_per_stream']:.0f} tokens, {streams['rounds']} "
        f"rounds: {streams['tokens_per_second']:,.0f} tokens/s, first token p50 "
        f"{streams['first_token']['p50'] * 1e3:.0f} ms, whole request p50 "
        f"{streams['request']['p50']:.2f} s. Server's own CPU per unary call of "
        f"{unary['tokens']} tokens, in ms: {own} (the engine's: {unary['engine_cpu'] * 1e3:.2f}). "
        f"{result['slots']} slots, {result['bundle']['precision']}; clients on the same machine: {processor(machine)}, "
        f"load {machine['load_average']}, {result['date'][:10]}."
    )
    return f"{markdown(['', 'must be at most', 'found'], rows)}\n\n{caption}"


def parser() -> Parser:
    """What to serve, and how much to ask of it."""
    made = Parser("benchmarks.load.http", __doc__)
    made.add_argument("--bundle", type=Path, help="default: random weights, int8, made in build/bench-http")
    made.add_argument("--out", type=Path, default=RESULTS / "http.json", help="where the result is kept")
    made.add_settings(HttpSettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything."""
    options = parser().parse_args(argv)
    given, bundle = read_settings(HttpSettings, options), options.bundle
    if bundle is None:
        bundle = ROOT / "build" / "bench-http" / "int8-static"
        write_bundles(bundle.parent, NetworkConfig(**NETWORKS["seq2seq"]), {"int8-static": ("int8", "static")})
    result = measure(bundle, given)
    keep(result, options.out, http_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
