"""int8 computes the same on every processor: also on x86 before VNNI, whose products of uint8 by int8 saturate."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model import sessions
from model.bundle import Bundle
from model.config import QuantizationConfig
from model.onnx.quantize import quantize_bundle
from model.sessions import EXACT, PRECISE, PRODUCT, hardware, open_session, products_saturate
from serving.engine import Engine, EngineConfig, GenerationRequest, providers
from tests.helpers.engines import talkative_bundle, tiny_corpus

ROOT = Path(__file__).resolve().parents[2]
CONFIG = EngineConfig(slots=4, threads=1, provider="cpu", source_buckets=[8, 16, 32])
OPTION = "session.x64quantprecision"
EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
# Before and after the mending, in one process: an emulated processor takes seconds to start.
EMULATED = """
import json, sys
from model import sessions
from tests.serving.test_engine_products import answers
machine, exact = sessions.hardware(), answers(sys.argv[1])
sessions.products_saturate = lambda: False
print(json.dumps([machine, exact, answers(sys.argv[1])]))
"""


def prompt_text(row: int) -> str:
    return "мир abc. кот"[: 2 + row] * (1 + row % 2)


def answers(path: str | Path) -> tuple[list[list[int]], list[float]]:
    """Greedy tokens of some prompts, and log-probabilities of given answers."""
    with Engine(Bundle.load(path), CONFIG) as engine:
        prompts = [engine.prompt(prompt_text(i), target="en") for i in range(10)]
        results = engine.generate([GenerationRequest(prompt, max_tokens=8) for prompt in prompts])
        vocabulary = engine.bundle.vocab_size
        targets = np.random.default_rng(0).integers(8, vocabulary, (len(prompts), 6)).tolist()
        return [result.token_ids for result in results], engine.score(prompts, targets)


def assert_same_but_for_ties(path: Path, found: list[list[int]], expected: list[list[int]]) -> None:
    """Greedy tokens of both, up to the first place of a row where two tokens are nearly as likely as each other.

    Which of these is taken is up to the rounding of floats, which is the processor's own: an activation that lies
    halfway between two integers may become either.
    """
    apart = [i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]]
    assert len(apart) <= 2, f"{len(apart)} rows differ: that is no rounding"
    with Engine(Bundle.load(path), CONFIG) as engine:
        for row in apart:
            at = next(i for i, (a, b) in enumerate(zip(found[row], expected[row], strict=False)) if a != b)
            prompt = engine.prompt(prompt_text(row), target="en")
            one, other = engine.score([prompt] * 2, [found[row][: at + 1], expected[row][: at + 1]])
            assert abs(one - other) < 0.1, f"row {row}, token {at}: {found[row]} and {expected[row]}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("products")
    fp32 = talkative_bundle(folder / "fp32", "seq2seq", 3, "translation", kv_heads=2)
    config = QuantizationConfig(activation_scale="row", calibration_rows=20)
    quantize_bundle(fp32, tiny_corpus(folder / "corpus"), folder / "int8", "int8", config)
    return folder / "int8"


def test_the_probe_is_one_product_of_integers() -> None:
    def value(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, None)

    inputs = [value("a", TensorProto.UINT8), value("b", TensorProto.INT8)]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "probe", inputs, [value("y", TensorProto.INT32)]
    )
    opset = [helper.make_opsetid("", 10)]
    assert helper.make_model(graph, opset_imports=opset, ir_version=4).SerializeToString() == PRODUCT


@pytest.mark.parametrize("saturate", [True, False])
def test_every_session_is_exact_where_products_saturate(bundle, monkeypatch, saturate) -> None:
    monkeypatch.setattr(sessions, "products_saturate", lambda: saturate)
    opened = [open_session(bundle / "decoder.onnx", 1)]
    with Engine(Bundle.load(bundle), CONFIG) as engine:
        opened += [engine._runtime._decoder, engine._runtime._encoder]
    for session in opened:
        if saturate:
            assert session.get_session_options().get_session_config_entry(OPTION) == "1"
        else:
            with pytest.raises(RuntimeError, match=OPTION):
                session.get_session_options().get_session_config_entry(OPTION)
    assert hardware()["int8_products"] == (PRECISE if saturate else EXACT)


def test_both_kinds_of_kernels_say_the_same(bundle, monkeypatch) -> None:
    """Where the fast kernels are exact, the others can be asked for as well."""
    if products_saturate():
        pytest.skip("here only one kind is exact; the emulated processor's test compares it with that of another run")
    fast = answers(bundle)
    monkeypatch.setattr(sessions, "products_saturate", lambda: True)
    assert answers(bundle) == fast
    assert len(set(map(tuple, fast[0]))) > 5  # they do say different things


@pytest.mark.skipif(
    platform.machine() != "x86_64" or EMULATOR is None,
    reason="no qemu-x86_64 (package qemu-user-static): int8 was not tried on a processor whose products saturate",
)
def test_a_processor_without_vnni_says_the_same(bundle) -> None:
    command = [str(EMULATOR), "-cpu", "Haswell-noTSX", sys.executable, "-c", EMULATED, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    machine, exact, saturated = json.loads(done.stdout.splitlines()[-1])
    tokens, scores = answers(bundle)
    assert_same_but_for_ties(bundle, exact[0], tokens)
    # Floating point rounds a little differently on every processor, in fp32 too; products of integers do not. In a row
    # or two an activation lies so near to the middle of two integers that it becomes another one.
    apart = np.abs(np.array(exact[1]) - np.array(scores))
    assert apart.max() < 2e-3 and (apart < 2e-5).sum() >= len(apart) - 2, apart
    assert np.abs(np.array(saturated[1]) - np.array(scores)).max() > 0.01, "nothing saturates: this proves nothing"
    assert machine["int8_products"] == PRECISE and "AVX2" in machine["instructions"]
    assert not any("VNNI" in name for name in machine["instructions"])


def test_the_slower_way_is_told(monkeypatch, caplog) -> None:
    monkeypatch.setattr(providers, "products_saturate", lambda: True)
    assert providers.wanted_providers("cpu", "int8") == [providers.CPU]
    assert "no VNNI" in caplog.text
    caplog.clear()
    providers.wanted_providers("cpu", "fp32")
    assert not caplog.text


def test_what_saturates_is_made_exact_by_the_option() -> None:
    """Whatever this processor is: with the option a product at the ends of both ranges is right."""
    graph = onnx.load_from_string(PRODUCT).graph
    weights = onnx.numpy_helper.from_array(np.full((64, 16), 127, np.int8), "b")
    graph = helper.make_graph(list(graph.node), "saturates", [graph.input[0]], list(graph.output), [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=4)
    product = open_session(model.SerializeToString(), 1)
    for rows in (1, 2, 7, 33):
        found = product.run(None, {"a": np.full((rows, 64), 255, np.uint8)})[0]
        assert (found == 64 * 255 * 127).all()
