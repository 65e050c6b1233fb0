"""A checkpoint becomes a bundle that says what PyTorch says, token for token, in the engine that serves it."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from evaluation.parity import compare, main
from model.bundle import Bundle
from model.config import NetworkConfig
from model.network import Transformer
from model.onnx.export import export_bundle
from model.onnx.weights import GraphError
from model.tokenizer import load_tokenizer
from serving.engine import Engine
from tests.helpers.bundles import TINY, tiny_checkpoint, tiny_corpus, tiny_tokenizer

torch.set_num_threads(1)  # more threads only wait for each other at this size


def train_to_copy(config, vocab_size, path, steps=250):
    """Train a network for a few seconds to give back its input reversed, and write its weights to ``path``."""
    torch.manual_seed(0)
    network = Transformer(config, vocab_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(steps):
        text = torch.randint(280, vocab_size, (24, 6))
        reverse = text.flip(1)
        bos, eos = torch.full((24, 1), 2), torch.full((24, 1), 3)
        if config.family == "seq2seq":
            logits, labels = network(text, torch.cat([bos, reverse], 1)), torch.cat([reverse, eos], 1)
        else:
            logits = network(None, torch.cat([bos, text, bos, reverse], 1))[:, 7:]
            labels = torch.cat([reverse, eos], 1)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file({name: values.detach().numpy() for name, values in network.state_dict().items()}, str(path))
    return float(loss.detach())


@pytest.fixture(scope="module", params=["seq2seq", "decoder", "ssru"])
def trained(request, tmp_path_factory):
    """Checkpoint and fp32 bundle of a briefly trained network."""
    root = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny_tokenizer(root / "tokenizer")
    kind = {"decoder_mixer": "ssru"} if request.param == "ssru" else {"family": request.param}
    config = NetworkConfig(**{**TINY, **kind, "max_positions": 48})
    checkpoint = tiny_checkpoint(root / "checkpoint", tokenizer, config, task="translation")
    loss = train_to_copy(config, load_tokenizer(tokenizer).vocab_size, checkpoint / "model.safetensors")
    assert loss < 3.5  # far below ln(vocabulary): the outputs depend on the inputs
    export_bundle(checkpoint, tokenizer, root / "bundle")
    return checkpoint, Bundle.load(root / "bundle")


def as_trained(bundle, text):
    """A text's ids as the prompt that it stood in."""
    return [2, *text, 2] if bundle.family == "decoder" else list(text)


def test_greedy_outputs_and_log_probabilities_of_200_prompts(trained):
    checkpoint, bundle = trained
    rng = np.random.default_rng(1)
    prompts = [as_trained(bundle, rng.integers(280, bundle.vocab_size, rng.integers(1, 20))) for _ in range(200)]
    with Engine(bundle) as engine:
        result = compare(engine, checkpoint, prompts, steps=16)
    assert result.identical == result.rows == 200
    assert result.positions > 800
    assert result.difference < 1e-4
    assert result.passed


def test_parity_notices_a_difference(trained, tmp_path):
    checkpoint, bundle = trained
    other = tmp_path / "other"
    other.mkdir()
    weights = load_file(str(checkpoint / "model.safetensors"))
    weights["decoder.layers.0.ffn.down.weight"] = weights["decoder.layers.0.ffn.down.weight"] * np.float32(1.001)
    save_file(weights, str(other / "model.safetensors"))
    (other / "training.json").write_bytes((checkpoint / "training.json").read_bytes())
    with Engine(bundle) as engine:
        result = compare(engine, other, [as_trained(bundle, [290, 291, 292, 293])], steps=4)
    assert result.difference > 1e-4
    assert not result.passed


def test_another_network_is_refused(trained, tmp_path):
    _, bundle = trained
    other = tiny_checkpoint(tmp_path, bundle.path, bundle.config.model_copy(update={"d_ff": 112}))
    with Engine(bundle) as engine, pytest.raises(GraphError, match=r"ffn\.up\.weight: shape \(112, 64\)"):
        compare(engine, other, [[290]])


@pytest.mark.parametrize(("family", "kind"), [("seq2seq", "parallel"), ("decoder", "text")])
def test_the_command_line(family, kind, tmp_path, capsys):
    """Random weights repeat a token until no position is left."""
    tokenizer, corpus = tiny_tokenizer(tmp_path / "tokenizer"), tiny_corpus(tmp_path / "corpus", rows=20, kind=kind)
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", tokenizer, NetworkConfig(**{**TINY, "family": family}))
    export_bundle(checkpoint, tokenizer, tmp_path / "bundle")
    assert main([str(tmp_path / "bundle"), str(checkpoint), "--corpus", str(corpus)]) == 0
    printed = capsys.readouterr().out
    assert "greedy outputs identical: 20 of 20" in printed and "passed" in printed
