"""The comparison of threads: its workers do what they are asked to, in the environment asked for, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.models import write_bundles
from benchmarks.serving.shapes import TINY
from benchmarks.threads import BATCHES, Way, neighbours, threads_table, ways, worker
from model.config import NetworkConfig


@pytest.mark.parametrize("kind", ["demo", "engine"])
def test_a_worker_works(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = {**TINY.networks["seq2seq"], "max_positions": 128}
    write_bundles(tmp_path / "models", NetworkConfig(**network), {"int8": ("int8", "static")})
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    way = Way("1 thread, spinning", 1, "1000")
    process = worker(kind, way, tmp_path / "models" / "int8", tmp_path / "log")
    try:
        assert process.answer() == {}
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert "GOMP_SPINCOUNT=1000" in environment
        assert "OMP_WAIT_POLICY" not in environment and "KMP_" not in environment
        with neighbours(1):
            process.ask({"workload": kind if kind == "demo" else "8", "seconds": 0.0})
            found = process.answer()
        assert found["tokens"] == (2 * 4096 if kind == "demo" else 8 * 40)
        assert found["cpu"] > 0 and found["wall"] > 0
    finally:
        process.close()


def test_the_table_shows_every_way_and_leaves_out_what_was_not_asked() -> None:
    runs = [
        {"way": way.name, "workload": workload, "busy": busy, "tokens_per_second": [3000, 1000 * (1 + busy), 1]}
        for way in ways(2)
        for workload in way.workloads
        for busy in (0, 1, 2)
    ]
    machine = {"cpu": "A CPU", "instructions": ["AVX2", "AVX-VNNI"], "cores": 2, "load_average": 0.1}
    result = {"runs": runs, "machine": machine, "rounds": 3, "date": "2026-01-02T03:04:05Z"}
    table = threads_table(result)
    assert table.count("1,000 / 2,000 / 3,000") == 3 * (2 + len(BATCHES)) + 2 * 2 + len(BATCHES)
    assert "| 2 processes of 1 thread | – | – | 1,000" in table
    assert "| 2 threads, spinning 1,000 rounds | 1,000 / 2,000 / 3,000 | 1,000 / 2,000 / 3,000 | – |" in table
    assert "A CPU AVX2 AVX-VNNI, 2 cores" in table and "beside 1 busy loop / beside 2 busy loops" in table
