"""The serving graphs against the PyTorch network, alone against padded, prefill against decode."""

import numpy as np
import onnx
import pytest
import torch

from benchmarks.serving.models import random_weights
from model.config import NetworkConfig
from model.network import Transformer
from model.onnx.transformer import build_graphs
from model.onnx.weights import GraphError, pack, state_shapes
from model.sessions import open_session
from model.tokenizer.prompt import pad
from tests.helpers.bundles import TINY
from tests.helpers.runner import Runner

VOCABULARY = 97
torch.set_num_threads(1)
PRUNED = {"encoder.1.attention": 3, "decoder.0.attention": 1, "decoder.1.cross": 2}
# Widths whose square root is not a power of two, and both ways of sharing key heads.
SHAPES = [
    pytest.param({"family": "seq2seq", "kv_heads": 1}, id="seq2seq-mqa"),
    pytest.param({"family": "seq2seq", "kv_heads": 2, "d_model": 48}, id="seq2seq-gqa"),
    pytest.param({"family": "seq2seq", "kv_heads": 4, "decoder_layers": 3}, id="seq2seq-mha"),
    pytest.param({"family": "seq2seq", "decoder_mixer": "ssru", "d_model": 40}, id="seq2seq-ssru"),
    pytest.param({"family": "seq2seq", "head_counts": PRUNED}, id="seq2seq-mqa-pruned"),
    pytest.param(
        {"family": "seq2seq", "kv_heads": 2, "head_counts": {"encoder.0.attention": 2, "decoder.1.cross": 2}},
        id="seq2seq-gqa-pruned",
    ),
    pytest.param({"family": "decoder", "kv_heads": 1}, id="decoder-mqa"),
    pytest.param({"family": "decoder", "kv_heads": 2, "d_model": 48, "heads": 6}, id="decoder-gqa"),
    pytest.param({"family": "decoder", "heads": 1, "decoder_layers": 1}, id="decoder-one-head"),
]


def network_config(overrides):
    return NetworkConfig(**{**TINY, **overrides})


def perturbed_weights(config, seed):
    """Random weights with random signs in the last norm and strong layers, so that outputs vary and depend on input."""
    rng = np.random.default_rng(seed)
    state = random_weights(config, VOCABULARY, seed)
    for name, values in state.items():
        if name == "decoder.norm.weight":
            state[name] = rng.standard_normal(values.shape).astype(np.float32)
        elif name.endswith(("out.weight", "down.weight")):
            state[name] = 2 * values
    return state


def torch_network(state, config):
    return Transformer.from_weights(config, VOCABULARY, state)


def runner(state, config):
    return Runner(build_graphs(pack(state, config, VOCABULARY), config), config)


def random_rows(rng, count, longest, shortest=1):
    return [rng.integers(4, VOCABULARY, rng.integers(shortest, longest + 1)).tolist() for _ in range(count)]


@pytest.mark.parametrize("overrides", SHAPES)
@pytest.mark.parametrize("perturbed", [False, True])
def test_logits_are_those_of_pytorch(overrides, perturbed):
    config, rng = network_config(overrides), np.random.default_rng(1)
    state = perturbed_weights(config, 1) if perturbed else random_weights(config, VOCABULARY, 1)
    network, graphs = torch_network(state, config), runner(state, config)
    sources = random_rows(rng, 8, 30)
    tokens = rng.integers(4, VOCABULARY, (8, config.max_positions if config.family == "decoder" else 24))
    graphs.start(sources, rows=8)
    ours = graphs.score(tokens)
    with torch.inference_mode():
        ids = torch.from_numpy(tokens)
        theirs = network(torch.from_numpy(pad(sources)[0]), ids)
    assert np.abs(theirs.numpy()).max() > 0.5
    np.testing.assert_allclose(ours, theirs.numpy(), atol=3e-5, rtol=0)


@pytest.mark.parametrize("overrides", SHAPES)
def test_a_padded_row_is_the_row_alone(overrides):
    config, rng = network_config({**overrides, "max_positions": 96}), np.random.default_rng(2)
    graphs = runner(perturbed_weights(config, 2), config)
    prompts = random_rows(rng, 200, 70)
    steps = rng.integers(4, VOCABULARY, (200, 3))
    together = []
    for start in range(0, 200, 20):
        together.append(prefill_and_steps(graphs, config, prompts[start : start + 20], steps[start : start + 20]))
    together = np.concatenate(together)
    for i, prompt in enumerate(prompts):
        alone = prefill_and_steps(graphs, config, [prompt], steps[i : i + 1])[0]
        assert np.array_equal(alone, together[i]), f"row {i} of {len(prompt)} tokens"


def prefill_and_steps(graphs, config, prompts, steps):
    """Logits [B, calls, V] after the prompt (decoder) and after each of the further tokens."""
    if config.family == "seq2seq":
        graphs.start(prompts)
        return np.stack([graphs.step(steps[:, t : t + 1]) for t in range(steps.shape[1])], axis=1)
    ids, counts = pad(prompts, multiple=2)
    graphs.start(rows=len(prompts))
    logits = [graphs.step(ids, counts)]
    return np.stack(logits + [graphs.step(steps[:, t : t + 1]) for t in range(steps.shape[1])], axis=1)


@pytest.mark.parametrize("overrides", SHAPES)
def test_prefill_and_decode_agree(overrides):
    config, rng = network_config(overrides), np.random.default_rng(3)
    graphs = runner(perturbed_weights(config, 3), config)
    sources, tokens = random_rows(rng, 5, 20), rng.integers(4, VOCABULARY, (5, 17))
    graphs.start(sources, rows=5)
    stepwise = graphs.score(tokens)
    for length in (1, 2, 11, 17):
        graphs.start(sources, rows=5)
        np.testing.assert_allclose(graphs.step(tokens[:, :length]), stepwise[:, length - 1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", ["seq2seq", "decoder"])
def test_the_cache_is_updated_in_place(family):
    """Past and present bound to one buffer give what separate buffers give: what the serving engine relies on."""
    config, rng = network_config({"family": family}), np.random.default_rng(4)
    graphs = runner(perturbed_weights(config, 4), config)
    sources, tokens = random_rows(rng, 3, 9), rng.integers(4, VOCABULARY, (3, 6))
    graphs.start(sources, rows=3)
    buffers = {name: values.copy() for name, values in graphs.past.items()}
    expected = graphs.score(tokens)
    for t in range(tokens.shape[1]):
        binding = graphs.decoder.io_binding()
        feeds = {
            "token_ids": np.ascontiguousarray(tokens[:, t : t + 1]),
            "cache_lengths": np.full(3, t, np.int32),
            "total_length": np.array(t + 1, np.int32),
            "last_index": np.zeros(3, np.int64),
            **graphs.cross,
        }
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        for name, values in buffers.items():
            where = ("cpu", 0, np.float32, list(values.shape), values.ctypes.data)
            binding.bind_input(name, *where)
            binding.bind_output(name.replace("past_", "present_"), *where)
        binding.bind_output("logits", "cpu")
        graphs.decoder.run_with_iobinding(binding)
        assert np.array_equal(binding.copy_outputs_to_cpu()[-1], expected[:, t])
    for name, values in buffers.items():
        assert np.array_equal(values, graphs.past[name])


def test_what_lies_in_the_padding_does_not_matter():
    config, rng = network_config({"family": "seq2seq"}), np.random.default_rng(5)
    graphs = runner(perturbed_weights(config, 5), config)
    sources = [[5, 6, 7], random_rows(rng, 1, 12, 12)[0]]
    graphs.start(sources)
    before = graphs.step(np.array([[2], [2]]))
    graphs.start(sources)
    for name in graphs.cross:
        if name != "source_lengths":
            graphs.cross[name] = graphs.cross[name].copy()
            graphs.cross[name][0, :, 3:] = 1e3
    assert np.array_equal(graphs.step(np.array([[2], [2]])), before)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["seq2seq", "decoder"])
def test_names_and_types_are_the_contract(family, precision):
    config = network_config({"family": family, "decoder_layers": 2})
    weights = pack(random_weights(config, VOCABULARY), config, VOCABULARY)
    graphs = build_graphs(weights, config, precision)
    assert set(graphs) == ({"encoder", "decoder"} if family == "seq2seq" else {"decoder"})
    cache = "tensor(float16)" if precision == "fp16" else "tensor(float)"
    cross = [f"cross_{part}_{i}" for i in range(2) for part in ("key", "value")]
    inputs = {"token_ids": "tensor(int64)", "cache_lengths": "tensor(int32)", "total_length": "tensor(int32)"}
    inputs |= {"last_index": "tensor(int64)"}
    inputs |= {f"past_{part}_{i}": cache for i in range(2) for part in ("key", "value")}
    if family == "seq2seq":
        inputs |= {"source_lengths": "tensor(int64)", **dict.fromkeys(cross, cache)}
        encoder = open_session(graphs["encoder"])
        assert {item.name: item.type for item in encoder.get_outputs()} == dict.fromkeys(cross, cache)
        assert [item.name for item in encoder.get_inputs()] == ["source_ids", "source_lengths"]
    decoder = open_session(graphs["decoder"])
    assert {item.name: item.type for item in decoder.get_inputs()} == inputs
    outputs = {"logits": "tensor(float)"} | {
        name.replace("past_", "present_"): cache for name in inputs if "past" in name
    }
    assert {item.name: item.type for item in decoder.get_outputs()} == outputs


def test_the_same_weights_give_the_same_bytes():
    config = network_config({"family": "seq2seq"})
    weights = pack(random_weights(config, VOCABULARY, 6), config, VOCABULARY)
    assert build_graphs(weights, config) == build_graphs(dict(reversed(weights.items())), config)


def test_the_decoder_holds_its_table_once():
    config = network_config({"family": "decoder"})
    state = random_weights(config, VOCABULARY, 7)
    decoder = build_graphs(pack(state, config, VOCABULARY), config)["decoder"]
    parameters = sum(values.nbytes for values in state.values())
    assert parameters < len(decoder) < parameters + 25_000
    onnx.load_model_from_string(decoder)


def test_weights_of_another_network_are_refused():
    config = network_config({"family": "decoder"})
    state = random_weights(config, VOCABULARY)
    state["decoder.layers.0.ffn.up.weight"] = state["decoder.layers.0.ffn.up.weight"][:-1]
    state["decoder.layers.1.ffn.down.weight"][0, 0] = np.nan
    state["surplus"] = state.pop("decoder.norm.weight")
    with pytest.raises(GraphError) as caught:
        pack(state, config, VOCABULARY)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "decoder.layers.0.ffn.up.weight: shape (95, 64), expected (96, 64)",
        "decoder.layers.1.ffn.down.weight: holds values that are not finite",
        "decoder.norm.weight: missing",
        "surplus: not part of this network",
    ]


@pytest.mark.parametrize("overrides", SHAPES)
def test_shapes_are_those_of_the_network(overrides):
    config = network_config(overrides)
    names = {name: tuple(values.shape) for name, values in Transformer(config, VOCABULARY).state_dict().items()}
    assert names == state_shapes(config, VOCABULARY)
