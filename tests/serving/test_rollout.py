"""Three rollouts under calling clients (`python -m benchmarks.load.rollout` makes 10,000 calls): not one call fails.

And one under the clients of the cluster's tests, whose gRPC streams outlive many of their requests.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from benchmarks.load.rollout import HOST, Proxy, rollouts
from benchmarks.load.server import ServerProcess
from tests.helpers.bundles import tiny_bundle
from tests.helpers.steady import Load, Target

CALLS = 1500


def test_no_call_fails_in_a_rollout(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="seq2seq")
    result = asyncio.run(rollouts(bundle, tmp_path, CALLS, "--threads", "1", "--drain_delay", "3"))
    assert not result["problems"], "\n".join(result["problems"])
    assert set(result["calls"]) == {"REST", "streams", "gRPC"}
    assert min(result["calls"].values()) > 50


async def _taken_over(bundle: Path, folder: Path) -> tuple[Load, int]:
    """The load of a rollout to a second server, which is killed at the end, and the first one's exit status."""
    options = ("--threads", "1", "--drain_delay", "8")
    aside = asyncio.to_thread
    servers = [await aside(ServerProcess, bundle, folder / f"log{number}", *options) for number in range(2)]
    proxies = [Proxy(servers[0].http_port), Proxy(servers[0].grpc_port)]
    target = Target(HOST, *[(await proxy.start()).port for proxy in proxies])
    load = Load(target, kept=2, new=2, rpc=12, pause=0.02, max_tokens=30)
    await aside(load.__enter__)
    try:
        await aside(load.more, 200)
        os.kill(servers[0].pid, signal.SIGTERM)
        await aside(load.more, 50)  # nobody knows yet
        proxies[0].target, proxies[1].target = servers[1].http_port, servers[1].grpc_port
        status = await aside(servers[0].wait)
        await aside(load.more, 200)
        assert not load.failed, load.facts()
        os.kill(servers[1].pid, signal.SIGKILL)
        await aside(load.more, 50)
    finally:
        await aside(load.__exit__)
        for proxy in proxies:
            proxy.stop()
        for server in servers:
            await aside(server.stop)
    return load, status


def test_no_request_on_a_stream_fails_when_another_server_takes_over(tmp_path: Path) -> None:
    """What a server takes with it when it is killed is told from what another one can still do."""
    load, status = asyncio.run(_taken_over(tiny_bundle(tmp_path / "bundle", family="seq2seq"), tmp_path))
    assert status == 0
    assert load.made["gRPC streams"] > 100
    assert any(kind == "gRPC streams" for _, kind, _ in load.failed), load.facts()
    assert "Traceback" not in (tmp_path / "log0").read_text()
