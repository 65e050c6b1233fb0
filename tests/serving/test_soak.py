"""Twenty seconds of the soak test (`make soak` runs ten minutes): every protocol, clients that leave, bad input."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.load.soak import flatness, soak
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import start_server

SECONDS, CLIENTS = 20, 64


def test_nothing_fails_and_nothing_leaks(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="seq2seq", max_positions=128)
    with start_server(bundle, tmp_path / "log", "--slots", "16") as server:
        result = asyncio.run(soak(server.http_port, server.grpc_port, server.process.pid, SECONDS, CLIENTS))
    assert not result["problems"], "\n".join(result["problems"])
    for kind, outcomes in result["outcomes"].items():
        assert outcomes.get("ok", 0) > 20, (kind, outcomes)
        assert outcomes.get("bad input refused", 0) > 0, (kind, outcomes)
        assert outcomes.get("abandoned", 0) > 0, (kind, outcomes)
    assert result["most_running"] > 8, "the load never filled the slots, so nothing was tested"


def test_growth_is_seen() -> None:
    assert flatness([100.0 + i * 0.5 for i in range(120)])["growth_mb"] > 8
    level = flatness([100.0] * 120)
    assert level["growth_mb"] == 0 and level["allowed_mb"] == 8
