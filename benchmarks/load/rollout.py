"""Rollouts as a cluster makes them, under clients that keep their connections: does a single call fail?

A proxy stands for the cluster's: connections stay with the server to which they were made, new ones go where it is
told. A rollout is a new server, SIGTERM for the old one, and the proxy's change of mind a moment before, after, or at
the same time: Kubernetes promises no order. Clients of REST and gRPC keep calling, whole answers and streams.

    python -m benchmarks.load.rollout                   # 10,000 calls over three rollouts; writes results/rollout.json
    python -m benchmarks.load.rollout --calls 2000 --bundle runs/latest/bundle --out /tmp/rollout.json
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil

from benchmarks.load.messages import INFER, infer_request
from benchmarks.load.server import ServerProcess
from benchmarks.load.trial import conclude, trial_parser
from benchmarks.machine import markdown
from model.options import Parser, read_settings, run
from model.settings import Count, Settings, setting

HOST = "127.0.0.1"
LAGS = (-0.2, 0.3, 0.0)  # seconds from SIGTERM to the proxy's change of mind, rollout by rollout
MODEL = "prometheus-mini"
BODY: dict[str, Any] = {"prompt": "hello", "target": "ru", "max_tokens": 4}


class RolloutSettings(Settings):
    """How much is called."""

    calls: Count = setting(10_000, "Calls of all clients together, over all rollouts.")


class Proxy:
    """A TCP proxy on a port of its own; ``target`` is where new connections go."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    async def start(self) -> Proxy:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Drop all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            try:
                there, back = await asyncio.open_connection(HOST, self.target)
            except ConnectionError:
                writer.transport.abort()  # nobody listens there: the client is refused as well
                return
            pumps = [asyncio.ensure_future(_pump(reader, back)), asyncio.ensure_future(_pump(there, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                writer.close()
                back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()


class Load:
    """Clients that call until they are told to stop, each over connections that it keeps."""

    def __init__(self, http_port: int, grpc_port: int) -> None:
        self.made: Counter[str] = Counter()
        self.failed: list[str] = []
        self.over = False
        self._url, self._grpc_port = f"http://{HOST}:{http_port}", grpc_port

    async def run(self) -> None:
        """Call until ``over``."""
        kinds = [self._rest] * 3 + [self._streams] * 2 + [self._rpc] * 2
        seldom = [(self._rest, 0.6), (self._rpc, 0.4)]  # idle more often than not
        await asyncio.gather(*(kind(0.0) for kind in kinds), *(kind(pause) for kind, pause in seldom))

    async def _calls(self, name: str, pause: float, call: Callable[[], Awaitable[None]]) -> None:
        while not self.over:
            try:
                await call()
            except (httpx.HTTPError, grpc.RpcError, AssertionError) as error:
                told = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                self.failed.append(f"{name}: {type(error).__name__}: {told}")
            self.made[name] += 1
            await asyncio.sleep(pause)

    async def _rest(self, pause: float) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=60, verify=False) as client:

            async def call() -> None:
                answer = await client.post("/generate", json=BODY)
                assert answer.status_code == 200, f"{answer.status_code} {answer.text}"

            await self._calls("REST", pause, call)

    async def _streams(self, pause: float) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=60, verify=False) as client:

            async def call() -> None:
                async with client.stream("POST", "/generate_stream", json={**BODY, "max_tokens": 30}) as answer:
                    text = (await answer.aread()).decode()
                assert answer.status_code == 200 and '"finish_reason"' in text, f"{answer.status_code} {text[-200:]}"

            await self._calls("streams", pause, call)

    async def _rpc(self, pause: float) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"{HOST}:{self._grpc_port}", options) as channel:
            infer = channel.unary_unary(INFER)
            request = infer_request(MODEL, BODY["prompt"], {"target": "ru", "max_tokens": 4})

            async def call() -> None:
                assert await infer(request, timeout=60)

            await self._calls("gRPC", pause, call)


async def rollouts(bundle: Path, folder: Path, calls: int, *options: str) -> dict[str, Any]:
    """Three rollouts, evenly over so many calls; what happened, with ``problems``, empty when all is well."""

    async def server(number: int) -> ServerProcess:
        return await asyncio.to_thread(ServerProcess, bundle, folder / f"log{number}", *options)

    servers = await asyncio.gather(*(server(number) for number in range(len(LAGS) + 1)))
    problems: list[str] = []
    left: list[float] = []
    proxies = [Proxy(servers[0].http_port), Proxy(servers[0].grpc_port)]
    load = Load(*[(await proxy.start()).port for proxy in proxies])
    started = time.monotonic()
    running = asyncio.ensure_future(load.run())
    try:
        for number, lag in enumerate(LAGS, 1):
            while load.made.total() < calls * number // (len(LAGS) + 1):
                await asyncio.sleep(0.02)
            told = time.monotonic()
            await _roll(servers[number - 1], servers[number], proxies, lag)
            status = await asyncio.to_thread(servers[number - 1].wait)
            left.append(round(time.monotonic() - told, 2))
            if status:
                problems.append(f"server {number} left with status {status}")
        while load.made.total() < calls:
            await asyncio.sleep(0.02)
    finally:
        load.over = True
        await running
        for proxy in proxies:
            proxy.stop()
        for one in servers:
            await asyncio.to_thread(one.stop)
    problems += [f"{count} x {words}" for words, count in Counter(load.failed).most_common(20)]
    return {
        "calls": dict(load.made),
        "failed": len(load.failed),
        "rollouts": len(LAGS),
        "seconds": round(time.monotonic() - started, 1),
        "seconds_to_leave": left,
        "problems": problems,
    }


async def _roll(old: ServerProcess, new: ServerProcess, proxies: list[Proxy], lag: float) -> None:
    """SIGTERM for the old server, and the proxy's change of mind ``lag`` seconds after it."""
    for terminates in (True, False) if lag >= 0 else (False, True):
        if terminates:
            psutil.Process(old.pid).send_signal(signal.SIGTERM)
        else:
            for proxy, target in zip(proxies, (new.http_port, new.grpc_port), strict=True):
                proxy.target = target
        await asyncio.sleep(abs(lag))


def table(result: dict[str, Any]) -> str:
    """Markdown: calls by protocol, and the verdict."""
    calls = markdown(["protocol", "calls"], ([name, f"{count:,}"] for name, count in result["calls"].items()))
    leaving = ", ".join(f"{seconds:.1f}" for seconds in result["seconds_to_leave"])
    verdict = "; ".join(result["problems"]) or "no call failed"
    return f"{calls}\n\n{result['rollouts']} rollouts; the old servers left after {leaving} s. {verdict}."


def parser() -> Parser:
    """What to serve, and how long to call it."""
    return trial_parser("rollout", __doc__, RolloutSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Roll out, and judge."""
    options = parser().parse_args(argv)
    calls = read_settings(RolloutSettings, options).calls
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(rollouts(options.bundle, Path(folder), calls))
    return conclude("rollout", result, options.out, table(result))


if __name__ == "__main__":
    sys.exit(run(main))
