"""Components are thin faces of library calls: short bodies, no logic at the module's top, documented for the UI."""

import ast
import importlib
from pathlib import Path

import pytest

from components.image import IMAGE

ROOT = Path(__file__).resolve().parents[2]
STEPS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))


def test_every_step_is_there():
    expected = "distil gate merge_shards preflight prepare_data prepare_shard publish refuse release train_model"
    assert [*expected.split(), "train_teacher", "train_tokenizer", "variant"] == STEPS


@pytest.mark.parametrize("name", STEPS)
def test_the_body_is_a_few_lines_in_a_step(name):
    tree = ast.parse((ROOT / "components" / name / "component.py").read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    body = function.body[1:]
    assert body[-1].end_lineno - body[0].lineno + 1 <= 14, "logic belongs in the library"
    frames = [node for node in body if isinstance(node, ast.With)]
    assert len(frames) == 1 and ast.unparse(frames[0].items[0].context_expr).startswith("step(")
    allowed = (ast.ImportFrom, ast.With, ast.Return)
    assert all(isinstance(node, allowed) for node in body), "only imports, the step, and a return"


@pytest.mark.parametrize("name", STEPS)
def test_directories_are_checked_by_the_step(name):
    source = (ROOT / "components" / name / "component.py").read_text(encoding="utf-8")
    for line in source.splitlines():
        if ": dsl.Output[" in line and not any(kind in line for kind in ("dsl.Metrics", "dsl.HTML")):
            output = line.split(": dsl.Output[")[0].split()[-1]
            assert f"{output}={output}.path" in source, f"{output} is not checked"


@pytest.mark.parametrize("name", STEPS)
def test_it_is_documented_for_the_user_interface(name):
    component = getattr(importlib.import_module(f"components.{name}.component"), name)
    spec = component.component_spec
    assert spec.description
    inputs = {**(spec.inputs or {}), **(spec.outputs or {})}
    undocumented = [key for key, value in inputs.items() if not value.description]
    assert not undocumented
    assert spec.implementation.container.image == IMAGE
