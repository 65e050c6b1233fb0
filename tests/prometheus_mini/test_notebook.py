"""The notebook runs, from its first cell to its last, in a loop as Jupyter's, and has nothing of any machine in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((ROOT / "docs" / "python.ipynb").read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
# As IPython does it: cells share their names, may await, and show the value of their last expression.
KERNEL = """
import ast, asyncio, inspect, json, sys

async def run(tree, mode, names):
    code = compile(tree, "cell", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(code, names)
    return await value if code.co_flags & inspect.CO_COROUTINE else value

async def main():
    names = {"__name__": "__main__"}
    for source in json.load(sys.stdin):
        tree, last = ast.parse(source), None
        if isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        await run(tree, "exec", names)
        value = await run(last, "eval", names) if last else None
        print("" if value is None else repr(value), end="\\n---\\n", flush=True)

asyncio.run(main())
"""


def test_every_cell_runs(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    cells = [source.replace("runs/latest/bundle", str(bundle)) for source in CODE]
    assert sum("load(" in cell for cell in cells) == 1 and str(bundle) in cells[0]
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(cells),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [each.strip() for each in done.stdout.split("\n---\n")[:-1]]
    assert len(shown) == len(CODE) and all(shown[:-1])  # the last cell closes the model, and says nothing
    assert shown[-2].startswith("to: unknown language 'de'")


def test_the_notebook_is_one_and_has_no_output() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    cells = NOTEBOOK["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) > 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    assert sum("outputs" in cell for cell in cells) == len(CODE)
    assert set(NOTEBOOK["metadata"]) == {"kernelspec", "language_info"}
