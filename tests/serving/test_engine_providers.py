"""Execution providers: one that is demanded runs or is refused by name, and what is listed is not believed."""

from __future__ import annotations

import os
import subprocess
import sys

import onnxruntime
import pytest

from model.bundle import Bundle
from model.config import QuantizationConfig
from model.onnx.quantize import quantize_bundle
from serving.engine import Engine, GenerationRequest
from serving.engine.providers import CPU, CUDA, TENSORRT, check_provider, node_counts, open_session
from serving.errors import EngineFailed
from tests.helpers.engines import CONFIG, family_bundle, tiny_corpus
from tests.helpers.servers import ROOT, free_ports


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return family_bundle(tmp_path_factory.mktemp("bundles"), "seq2seq")


@pytest.fixture(scope="module")
def fp16(fp32, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp16")
    quantize_bundle(fp32.path, tiny_corpus(folder / "corpus"), folder / "bundle", "fp16", QuantizationConfig())
    return Bundle.load(folder / "bundle")


@pytest.mark.parametrize("setting", ["cuda", "tensorrt"])
def test_precisions_without_gpu_kernels_are_refused(fp32, setting):
    with pytest.raises(EngineFailed, match="fp32 variant has no CUDA kernels; publish the fp16 variant"):
        Engine(fp32, CONFIG.model_copy(update={"provider": setting})).start()


@pytest.mark.parametrize(("setting", "name"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_demanded_provider_runs_or_is_refused_by_name(fp16, setting, name):
    """Where there is no GPU, ONNX Runtime lists CUDA all the same and quietly falls back to the CPU: we must not."""
    engine = Engine(fp16, CONFIG.model_copy(update={"provider": setting}))
    try:
        engine.start()
    except EngineFailed as error:
        assert name in str(error)
        assert "provider: cpu" in str(error)
        assert engine.provider == ""
    else:
        assert engine.provider == name
        assert engine.stats()["graph_nodes"][name] > 0
        assert len(engine.generate([GenerationRequest(engine.prompt("a", target="ru"), 5)])) == 1
        engine.close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_server_without_its_provider_does_not_start(fp32, precision, tmp_path):
    """One sentence and status 2, before a port is answered: on a cluster the pod does not become ready."""
    if precision != "fp32":
        quantize_bundle(
            fp32.path, tiny_corpus(tmp_path / "corpus"), tmp_path / precision, precision, QuantizationConfig()
        )
    bundle = fp32.path if precision == "fp32" else tmp_path / precision
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--provider", "cuda"]
    for name, port in zip(("http_port", "grpc_port"), free_ports(2), strict=True):
        command += [f"--{name}", str(port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == f"error: the {precision} variant has no CUDA kernels; publish the fp16 variant to use the GPU"
    assert "Traceback" not in done.stderr


def test_auto_takes_the_cpu_where_there_is_no_gpu(fp16):
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    with Engine(fp16, CONFIG.model_copy(update={"provider": "auto"})) as engine:
        assert engine.provider == CPU


def test_what_is_listed_is_not_believed(fp32):
    session = open_session(fp32.graph("decoder"), [CPU], 1, False)
    counts = node_counts(session)
    assert counts[CPU] > 10 and list(counts) == [CPU]
    assert check_provider(session, [CPU], demanded=True) == CPU
    with pytest.raises(EngineFailed, match=rf"{TENSORRT} is listed .* did not load; {CPU} runs instead.*demands it"):
        check_provider(session, [TENSORRT, CUDA, CPU], demanded=True)
    assert check_provider(session, [TENSORRT, CUDA, CPU], demanded=False) == CPU


def test_a_graph_that_does_not_load_is_named(tmp_path):
    (tmp_path / "decoder.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineFailed, match=rf"decoder.onnx: ONNX Runtime {onnxruntime.__version__} cannot load"):
        open_session(tmp_path / "decoder.onnx", [CPU], 1, False)
