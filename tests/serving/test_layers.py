"""The floors of serving/: engine, service, kserve and v2, rest and grpc, server. Imports point down."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

SERVING = Path(__file__).resolve().parents[2] / "serving"
FLOORS = [{"engine"}, {"service"}, {"kserve", "v2"}, {"rest", "grpc"}, {"server"}]


def rooms() -> dict[str, set[str]]:
    """Folders and files of serving/, and the others that each imports."""
    found: dict[str, set[str]] = {}
    for path in SERVING.rglob("*.py"):
        room = path.relative_to(SERVING).with_suffix("").parts[0]
        imports = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            imports |= {name.split(".")[1] for name in names if name.startswith("serving.")} - {room}
    return found


def test_no_room_is_reached_from_below() -> None:
    found = rooms()
    assert list(TopologicalSorter(found).static_order()), "raises CycleError, naming the rooms, where there is a circle"
    for height, floor in enumerate(FLOORS):
        above = set().union(*FLOORS[height:]) - floor
        for room in floor:
            assert room in found
            assert not found[room] & (above | floor - {room}), f"{room} imports {found[room] & (above | floor)}"
