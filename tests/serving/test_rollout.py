"""Three rollouts under calling clients (`python -m benchmarks.load.rollout` makes 10,000 calls): not one call fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.load.rollout import rollouts
from tests.helpers.bundles import tiny_bundle

CALLS = 1500


def test_no_call_fails_in_a_rollout(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", family="seq2seq")
    result = asyncio.run(rollouts(bundle, tmp_path, CALLS, "--threads", "1", "--drain_delay", "3"))
    assert not result["problems"], "\n".join(result["problems"])
    assert set(result["calls"]) == {"REST", "streams", "gRPC"}
    assert min(result["calls"].values()) > 50
