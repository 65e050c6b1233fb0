"""fp16 and int8 bundles: near fp32, a row's answer independent of its neighbours, and the bytes."""

import json

import numpy as np
import onnx
import pytest

from benchmarks.serving.models import random_weights
from model.bundle import Bundle
from model.config import NetworkConfig, QuantizationConfig
from model.onnx.calibrate import calibrate
from model.onnx.graph import Calibration, quantize_matrix
from model.onnx.quantize import main, quantize_bundle
from model.onnx.transformer import build_graphs
from model.onnx.weights import GraphError, pack, read_packed
from model.sessions import open_session
from model.tokenizer.prompt import Example, pad
from tests.helpers.bundles import TINY, tiny_bundle, tiny_corpus
from tests.helpers.runner import Runner

NETWORKS = [
    pytest.param({"family": "seq2seq"}, id="seq2seq"),
    pytest.param({"family": "seq2seq", "kv_heads": 2, "d_model": 48}, id="seq2seq-gqa"),
    pytest.param({"family": "seq2seq", "decoder_mixer": "ssru"}, id="seq2seq-ssru"),
    pytest.param({"family": "seq2seq", "head_counts": {"decoder.0.attention": 1, "decoder.1.cross": 3}}, id="pruned"),
    pytest.param({"family": "decoder"}, id="decoder"),
]
VARIANTS = ["fp16", "int8-row", "int8-static"]
# Root-mean-square error of the logits against fp32, as a share of the logits' own: twice what was measured here.
ERROR = {"fp16": 0.0025, "int8-row": 0.06, "int8-static": 0.075}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """(network id, variant) -> Bundle, made on first use."""
    root, made = tmp_path_factory.mktemp("variants"), {}

    def get(network, variant):
        key = (json.dumps(network, sort_keys=True), variant)
        if key not in made:
            name = f"{len(made)}-{variant}"
            if variant == "fp32":
                tiny_bundle(root / name, **network)
            else:
                source = get(network, "fp32")
                corpus = tiny_corpus(
                    root / f"corpus-{source.task}", kind="parallel" if source.task == "translation" else "text"
                )
                precision, _, scale = variant.partition("-")
                config = QuantizationConfig(activation_scale=scale or "row", calibration_rows=30)
                quantize_bundle(source.path, corpus, root / name, precision, config)
            made[key] = Bundle.load(root / name)
        return made[key]

    return get


def open_runner(bundle):
    return Runner({role: bundle.graph(role) for role in bundle.graphs}, bundle.config)


def score(bundle, sources, tokens):
    graphs = open_runner(bundle)
    graphs.start(sources, rows=len(tokens))
    return graphs.score(tokens)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_variants_stay_near_fp32(bundles, network, variant):
    rng = np.random.default_rng(1)
    reference, bundle = bundles(network, "fp32"), bundles(network, variant)
    sources = [rng.integers(4, bundle.vocab_size, rng.integers(1, 30)).tolist() for _ in range(8)]
    tokens = rng.integers(4, bundle.vocab_size, (8, 20))
    expected, found = score(reference, sources, tokens), score(bundle, sources, tokens)
    assert found.dtype == np.float32
    error = float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))
    assert 0 < error < ERROR[variant]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_row_does_not_see_its_neighbours(bundles, network, variant):
    """Decoded alone or in a batch of 8, with shorter and longer sources and prompts beside it: the same bits."""
    rng = np.random.default_rng(2)
    graphs = open_runner(bundles(network, variant))
    vocabulary = bundles(network, variant).vocab_size
    for _ in range(4):
        prompts = [rng.integers(4, vocabulary, rng.integers(1, 40)).tolist() for _ in range(8)]
        tokens = rng.integers(4, vocabulary, (8, 12))

        def decode(rows, prompts=prompts, tokens=tokens):
            chosen = [prompts[row] for row in rows]
            logits = []
            graphs.start(chosen, rows=len(rows))
            if network["family"] == "decoder":
                logits.append(graphs.step(*pad(chosen, multiple=2)))
            return np.stack([*logits, *(graphs.step(tokens[rows, t : t + 1]) for t in range(12))], axis=1)

        together = decode(list(range(8)))
        for row in range(8):
            assert np.array_equal(decode([row])[0], together[row])


@pytest.mark.parametrize("network", NETWORKS)
def test_bytes_and_manifest(bundles, network):
    fp32, fp16, row = (bundles(network, name) for name in ("fp32", "fp16", "int8-row"))
    assert 0.48 < fp16.bytes / fp32.bytes < 0.56
    assert row.bytes / fp32.bytes < 0.5
    recurrent = "decoder_mixer" in network
    dtypes = ["float32"] * 3 if recurrent else ["float32", "float16", "int8"]
    assert [bundle.cache_dtype for bundle in (fp32, fp16, row)] == dtypes
    assert row.config == fp32.config and row.tokenizer == fp32.tokenizer and row.limits == fp32.limits
    settings = row.provenance["quantization"]
    assert settings["activation_scale"] == "row"
    assert len(settings["cache_bounds"]["keys"]) == (0 if recurrent else row.config.decoder_layers)
    assert [str(open_runner(bundle).cache_dtype.__name__) for bundle in (fp32, fp16, row)] == dtypes


def test_the_published_shape_is_a_quarter_of_fp32():
    config = NetworkConfig(encoder_layers=1)
    weights = pack(random_weights(config, 8000), config, 8000)
    bound = Calibration([8.0, 8.0], [4.0, 4.0])
    fp32 = build_graphs(weights, config)
    int8 = build_graphs(weights, config, "int8", bound)
    assert sum(map(len, int8.values())) < 0.27 * sum(map(len, fp32.values()))
    decoder = sum(values.size for name, values in weights.items() if name.startswith(("decoder.", "embedding")))
    assert len(int8["decoder"]) < 1.08 * decoder  # the table is stored once, for embedding and head


def test_quantized_matrices_round_to_the_nearest_step():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((40, 30)).astype(np.float32)
    matrix[:, 7] = 0
    values, scale = quantize_matrix(matrix)
    assert values.dtype == np.int8 and np.abs(values).max() == 127 and not values[:, 7].any()
    assert scale.shape == () and (np.abs(values * scale - matrix) <= scale * 0.5001).all()
    assert not quantize_matrix(np.zeros((3, 4), np.float32))[0].any()


@pytest.mark.parametrize("scale", ["row", "static"])
def test_rows_of_zeros_stay_zeros(scale):
    """A token whose whole feed-forward is switched off has a row scale of 0, and must not become NaN."""
    config = NetworkConfig(**{**TINY, "family": "decoder", "d_ff": 16})
    state = random_weights(config, 50)
    for name in state:
        if name.endswith("ffn.up.weight"):
            state[name] = np.zeros_like(state[name])
    weights = pack(state, config, 50)
    calibration = calibrate(weights, config, [Example("decoder", [5, 6, 7, 8], [9, 10, 3])])
    tokens = np.arange(4, 12)[None]
    logits = []
    for precision in ("fp32", "int8"):
        graphs = Runner(build_graphs(weights, config, precision, calibration, scale), config)
        graphs.start(rows=1)
        logits.append(graphs.score(tokens))
    assert np.isfinite(logits[1]).all()
    assert np.sqrt(((logits[0] - logits[1]) ** 2).mean() / (logits[0] ** 2).mean()) < ERROR[f"int8-{scale}"]


def test_calibration_bounds_what_the_cache_holds(bundles):
    bundle = bundles({"family": "decoder"}, "fp32")
    weights = read_packed([bundle.graph("decoder")])
    examples = [Example("decoder", [5, 6], [7, 8, 9, 3]), Example("decoder", [20], [30, 40, 3])]
    measured = calibrate(weights, bundle.config, examples, quantile=1.0)
    graphs = open_runner(bundle)
    keys, values = [], []
    for example in examples:
        graphs.start(rows=1)
        graphs.step(np.array([example.inputs]))
        keys.append(np.abs(graphs.past["past_key_1"]).max())
        values.append(np.abs(graphs.past["past_value_1"]).max())
    assert measured.keys[1] == pytest.approx(max(keys), rel=1e-5)
    assert measured.values[1] == pytest.approx(max(values), rel=1e-5)
    inputs = {name for name, values in weights.items() if values.ndim == 2}
    assert set(measured.activations) == inputs
    narrower = calibrate(weights, bundle.config, examples, quantile=0.5)
    assert all(narrower.activations[name] <= bound for name, bound in measured.activations.items())


def test_packed_weights_come_back_out_of_a_bundle(bundles):
    bundle = bundles({"family": "seq2seq"}, "fp32")
    expected = pack(random_weights(bundle.config, bundle.vocab_size, 0), bundle.config, bundle.vocab_size)
    found = read_packed([bundle.graph("encoder"), bundle.graph("decoder")])
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_int8_multiplies_integers(bundles):
    model = onnx.load(str(bundles({"family": "seq2seq"}, "int8-row").graph("decoder")))
    operators = [node.op_type for node in model.graph.node]
    assert "MatMul" not in operators and "Gemm" not in operators
    assert operators.count("MatMulIntegerToFloat") == 2 * 6 + 1


def test_what_cannot_be_quantized_is_refused(bundles, tmp_path, capsys):
    bundle = bundles({"family": "seq2seq"}, "fp32")
    text, empty = tiny_corpus(tmp_path / "text", kind="text"), tiny_corpus(tmp_path / "empty", rows=0)
    with pytest.raises(GraphError, match="is int8; give the fp32 bundle"):
        quantize_bundle(bundles({"family": "seq2seq"}, "int8-row").path, text, tmp_path / "out", "int8")
    with pytest.raises(GraphError, match="expected fp16 or int8, found 'int4'"):
        quantize_bundle(bundle.path, text, tmp_path / "out", "int4")
    with pytest.raises(GraphError, match=r"corpus of kind 'text', but .* is a translation model"):
        quantize_bundle(bundle.path, text, tmp_path / "out", "int8")
    with pytest.raises(GraphError, match="no row of the valid split fits"):
        quantize_bundle(bundle.path, empty, tmp_path / "out", "int8")
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().out == ""


def test_the_command_line(bundles, tmp_path, capsys):
    bundle, corpus = bundles({"family": "seq2seq"}, "fp32"), tiny_corpus(tmp_path / "corpus", rows=4)
    command = [str(bundle.path), str(corpus), str(tmp_path / "out"), "--precision", "int8"]
    assert main([*command, "--activation_scale", "static", "--calibration_rows", "3"]) == 0
    assert "of fp32's" in capsys.readouterr().out
    assert Bundle.load(tmp_path / "out").provenance["quantization"]["activation_scale"] == "static"
    first = (tmp_path / "out" / "bundle.json").read_bytes()
    assert main([*command, "--calibration_rows", "3"]) == 0
    assert (tmp_path / "out" / "bundle.json").read_bytes() == first
    open_session(tmp_path / "out" / "decoder.onnx")
