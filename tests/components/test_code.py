"""The code of a step is all that it imports and no more: held against what Python really loads, and against edits."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components import code
from components.code import code_of, files_of

ROOT = Path(__file__).resolve().parents[2]
STEPS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
# Everything that the body of a component imports, and that this imports in its functions in turn, is loaded.
LOAD = """
import ast, importlib, sys
from pathlib import Path

def load(path):
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] in ("components", "evaluation", "model", "release", "serving"):
                importlib.import_module(node.module)

load(sys.argv[1])
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith(sys.argv[2] + "/") and "site-packages" not in file:
        print(file)
"""


@pytest.mark.parametrize("step", STEPS)
def test_what_python_loads_is_in_the_steps_code(step):
    command = [sys.executable, "-c", LOAD, str(ROOT / "components" / step / "component.py"), str(ROOT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(line) for line in done.stdout.splitlines()} - {ROOT / "components" / step / "component.py"}
    assert len(loaded) > 5
    assert not loaded - set(files_of(step)), "loaded, but not in the hash"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the sources, of which code_of tells."""
    for package in code.PACKAGES:
        if (ROOT / package).is_dir():
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    caches = (code.code_of, code._imported)
    for cached in caches:
        cached.cache_clear()

    def edited(name):
        """The steps that are run anew when a file changes."""
        before = {step: code_of(step) for step in STEPS}
        path = tmp_path / name
        path.write_bytes(path.read_bytes() + b"\n")
        for cached in caches:
            cached.cache_clear()
        return {step for step in STEPS if code_of(step) != before[step]}

    yield edited
    for cached in caches:
        cached.cache_clear()


def test_an_edit_runs_the_steps_anew_that_read_it_and_no_other(copy):
    assert copy("serving/rest/generate.py") == set(), "what only a server runs retrains nothing"
    assert copy("pipelines/profiles/demo.jsonl.zst") == set(), "text is stamped by preflight"
    assert copy("serving/engine/sampler.py") == {"variant", "distil"}
    assert copy("model/training/loop.py") == {"train_model", "train_teacher"}
    assert copy("components/gate/component.py") == {"gate"}
    assert "variant" in copy("evaluation/quality.py")
    trained = copy("model/corpus/columns.json")
    assert {"prepare_data", "preflight", "train_model"} <= trained and "refuse" not in trained, "data counts as code"
    assert copy("model/errors.py") == set(STEPS)
    assert copy("requirements/pipeline.lock") == set(STEPS), "another torch trains another model"
    assert copy("requirements/serving.lock") == set()
