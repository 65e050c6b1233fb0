"""Heads are really gone, those that matter least, and what is left computes what masking them would."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evaluation.parity import compare
from model.bundle import Bundle
from model.config import ConfigError, NetworkConfig, TrainingConfig, from_dict, to_dict
from model.network import Transformer
from model.onnx.export import export_bundle
from model.onnx.weights import state_shapes
from model.pruning import PruningError, PruningSettings, choose, importance, main, mean_loss, prune, remove
from model.tokenizer import load_tokenizer
from model.training.batches import Examples
from model.training.checkpoint import load_checkpoint
from model.training.loop import train
from serving.engine import Engine
from tests.helpers.training import CONFIG, NETWORK, corpus_and_tokenizer, write_corpus

SEQ2SEQ = NETWORK.model_copy(update={"heads": 4, "kv_heads": 2})
BLOCKS = ["encoder.0.attention", "decoder.0.attention", "decoder.0.cross"]


def network(config, seed=0, vocabulary=60):
    """A network in which every head has a say."""
    torch.manual_seed(seed)
    made = Transformer(config, vocabulary).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


def state(made):
    return {name: values.numpy() for name, values in made.state_dict().items()}


def loaded(weights, config, vocabulary=60):
    return Transformer.from_weights(config, vocabulary, weights).requires_grad_(False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(corpus, checkpoint) of a network of two groups of two heads."""
    root = tmp_path_factory.mktemp("trained")
    corpus, tokenizer = corpus_and_tokenizer(root)
    train(corpus, corpus, tokenizer, root / "checkpoint", SEQ2SEQ, CONFIG)
    return corpus, root / "checkpoint"


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_what_is_left_computes_what_masked_heads_would(kv_heads):
    """A head whose columns of the output projection are zero says nothing; without it the logits are the same."""
    config = NETWORK.model_copy(update={"heads": 8, "kv_heads": kv_heads})
    made = network(config)
    kept = {"encoder.0.attention": [0, 3, 5, 7], "decoder.0.attention": [1, 2, 4, 6], "decoder.0.cross": list(range(8))}
    if kv_heads == 4:  # groups of two
        kept["encoder.0.attention"] = [0, 3, 5, 6]
        kept["decoder.0.attention"] = [1, 2, 4, 7]
    smaller, pruned = remove(state(made), config, kept)
    assert {name: values.shape for name, values in smaller.items()} == state_shapes(pruned, 60)
    masked = state(made)
    for block, heads in kept.items():
        name = f"{block.replace('.', '.layers.', 1)}.out.weight"
        gone = [head for head in range(8) if head not in heads]
        masked[name] = masked[name].copy()
        masked[name].reshape(32, 8, 16)[:, gone] = 0
    source, ids = torch.randint(4, 60, (3, 9)), torch.randint(4, 60, (3, 7))
    expected = loaded(masked, config)(source, ids)
    torch.testing.assert_close(loaded(smaller, pruned)(source, ids), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(made(source, ids), expected, atol=1e-2)


def test_importance_is_the_slope_of_each_examples_loss(trained):
    """Against differences: a head's output is its columns of the output projection, so scaling those moves its gate."""
    corpus, checkpoint = trained
    weights, info = load_checkpoint(checkpoint)
    tokenizer = load_tokenizer(checkpoint / "tokenizer")
    batches = Examples(corpus, tokenizer, SEQ2SEQ, CONFIG.model_copy(update={"batch_tokens": 32})).valid_batches()
    found = importance(loaded(weights, SEQ2SEQ, info["vocab_size"]), batches)
    assert list(found) == BLOCKS and all(values.shape == (4,) for values in found.values())

    def losses(block, head, gate):
        name = f"{block.replace('.', '.layers.', 1)}.out.weight"
        scaled = {**weights, name: weights[name].copy()}
        scaled[name].reshape(32, 4, 16)[:, head] *= gate
        made = loaded(scaled, SEQ2SEQ, info["vocab_size"])
        found = []
        for batch in batches:
            logits = made(batch.source, batch.inputs)
            labels = torch.zeros_like(batch.inputs)
            labels.view(-1)[batch.places] = batch.labels
            nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=0, reduction="none")
            found += nats.sum(1)[labels.any(1)].tolist()
        return np.array(found)

    for block in BLOCKS:
        head = int(found[block].argmax())
        slope = np.abs(losses(block, head, 1.05) - losses(block, head, 0.95)).mean() / 0.1
        assert found[block][head] == pytest.approx(slope, rel=0.05, abs=5e-4)
        assert slope > 0.005


def test_the_least_important_go_and_every_group_keeps_one():
    one = NETWORK.model_copy(update={"heads": 4})
    found = {"encoder.0.attention": np.array([4.0, 1, 3, 2]), "decoder.0.attention": np.array([1.0, 1, 1, 0.01])}
    assert choose(found, one, 0.25) == {"encoder.0.attention": [0, 2, 3], "decoder.0.attention": [0, 1, 2]}
    # All but one of each block, whatever the others are worth.
    assert choose(found, one, 0.75) == {"encoder.0.attention": [0], "decoder.0.attention": [2]}
    grouped = choose({"encoder.0.attention": np.array([0.1, 5, 9, 8])}, SEQ2SEQ, 0.5)
    assert grouped == {"encoder.0.attention": [1, 2]}  # 8 is more than 0.1 and 5, but its group's least


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_too_few_and_too_many_are_refused(fraction):
    found = {block: np.ones(4) for block in BLOCKS}
    with pytest.raises(PruningError, match=r"at least 2 can be taken out, .* at most 6"):
        choose(found, SEQ2SEQ, fraction)


def test_a_pruned_checkpoint_is_served_as_pytorch_computes_it(trained, tmp_path):
    """Fewer numbers in the checkpoint and in the graphs, the same tokens in the engine, and all of it told."""
    corpus, checkpoint = trained
    told = prune(checkpoint, corpus, tmp_path / "pruned", PruningSettings(fraction=0.34))["pruning"]
    weights, info = load_checkpoint(tmp_path / "pruned")
    assert info["pruning"] == json.loads(json.dumps(told))
    assert told["heads"] == {"before": 12, "after": 8}
    gone = sum(map(len, told["importance"].values())) - sum(map(len, told["kept"].values()))
    assert told["parameters"]["before"] - told["parameters"]["after"] == gone * 2 * 32 * 16
    assert sum(values.size for values in weights.values()) == info["parameters"] == told["parameters"]["after"]
    config = from_dict(NetworkConfig, info["network"])
    tokenizer = load_tokenizer(tmp_path / "pruned" / "tokenizer")
    batches = Examples(corpus, tokenizer, config, CONFIG).valid_batches()
    assert told["valid_loss"]["after"] == info["valid_loss"]
    again = mean_loss(loaded(weights, config, info["vocab_size"]), batches)
    assert again == pytest.approx(info["valid_loss"], rel=1e-5)
    for name in ("whole", "fewer"):
        folder = checkpoint if name == "whole" else tmp_path / "pruned"
        export_bundle(folder, folder / "tokenizer", tmp_path / name)
    whole, fewer = (Bundle.load(tmp_path / name) for name in ("whole", "fewer"))
    assert whole.bytes - fewer.bytes > gone * 2 * 32 * 16 * 4 - 2000  # but for the names of some more constants
    with Engine(fewer) as engine:
        prompts = [engine.prompt(text, target="en") for text in ("один два", "три", "пять восемь ноль")]
        result = compare(engine, tmp_path / "pruned", prompts, steps=12)
    assert result.passed


def test_some_training_afterwards_begins_with_what_is_left(trained, tmp_path, capsys):
    corpus, checkpoint = trained
    command = [str(checkpoint), str(corpus), "--out", str(tmp_path / "out"), "--fraction", "0.34", "--retrain", "8"]
    assert main([*command, "--eval_every", "4"]) == 0
    printed = capsys.readouterr().out
    info = json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))
    losses = info["pruning"]["valid_loss"]
    assert losses["retrained"] < losses["after"]
    assert losses["retrained"] == pytest.approx(info["valid_loss"], rel=0.02)
    assert f"{losses['after']:.4f} without those heads" in printed
    assert f"after 8 steps of training: {losses['retrained']:.4f}" in printed
    assert (info["steps"], info["config"]["adam_lr"]) == (8, pytest.approx(0.2 * CONFIG.adam_lr))
    assert info["network"]["head_counts"] and info["init_from"]["name"] == "pruned"
    with pytest.raises(PruningError, match="holds a finished training already"):
        main(command)


def test_text_of_another_kind_is_refused(trained, tmp_path):
    _, checkpoint = trained
    other = write_corpus(tmp_path / "german")
    card = json.loads((other / "corpus.json").read_text("utf-8"))
    (other / "corpus.json").write_text(json.dumps({**card, "languages": ["de", "en"]}))
    with pytest.raises(PruningError, match=r"is for translation in de, en, but .* in ru, en"):
        prune(checkpoint, other, tmp_path / "out", PruningSettings(fraction=0.5))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"encoder.0.cross": 2}, "encoder.0.cross is no block of attention of this network"),
        ({"decoder.7.attention": 2}, "decoder.7.attention is no block"),
        (
            {"decoder.0.cross": 3},
            r"has 3 heads, which must be a multiple of kv_heads \(2\), below heads",
        ),
        ({"decoder.0.cross": 4}, "has 4 heads"),
        ({"decoder.0.cross": 0}, "must be at least 1"),
    ],
)
def test_counts_that_no_network_can_have_are_refused(counts, problem):
    with pytest.raises(ConfigError, match=problem):
        from_dict(NetworkConfig, {**to_dict(SEQ2SEQ), "head_counts": counts})


def test_a_whole_network_is_written_as_before_heads_could_go():
    assert "head_counts" not in to_dict(NetworkConfig())
    assert TrainingConfig(**to_dict(CONFIG)) == CONFIG
