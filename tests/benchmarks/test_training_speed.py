"""Training beside PyTorch's own parts: the other networks are what they are said to be, and the measurement runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.baselines import Decoder, EncoderDecoder
from model.config import NetworkConfig
from model.network import Transformer, count_parameters
from model.training.precision import multiplies_bfloat16
from pipelines.request import load_profile

TINY = NetworkConfig(d_model=64, encoder_layers=1, decoder_layers=1, d_ff=64, max_positions=16)


def test_the_other_networks_see_no_future_and_no_padding() -> None:
    torch.manual_seed(0)
    source, inputs = torch.randint(4, 50, (2, 3, 8)).unbind()
    source[:, 6:] = 0
    longer = torch.cat([source, torch.zeros_like(source)], dim=1)
    later = torch.cat([inputs[:, :5], inputs[:, 5:].flip(1) + 1], dim=1)
    seq2seq, decoder = EncoderDecoder(TINY, 60), Decoder(TINY, 60)
    expected = seq2seq(source, inputs)
    torch.testing.assert_close(seq2seq(longer, inputs), expected)
    torch.testing.assert_close(seq2seq(source, later)[:, :5], expected[:, :5])
    assert not torch.allclose(seq2seq(source, later)[:, 5:], expected[:, 5:])
    assert not torch.allclose(seq2seq(source.flip(0), inputs), expected)
    torch.testing.assert_close(decoder(None, later)[:, :5], decoder(None, inputs)[:, :5])
    assert not torch.allclose(decoder(None, later)[:, 5:], decoder(None, inputs)[:, 5:])


@pytest.mark.parametrize("profile", training.PROFILES)
def test_the_other_networks_are_as_large(profile: str) -> None:
    network, vocabulary = load_profile(profile).network, training.PROFILES[profile][0]
    with torch.device("meta"):
        other = (EncoderDecoder if profile == "small" else Decoder)(network, vocabulary)
        ours = Transformer(network, vocabulary)
    assert count_parameters(other) == pytest.approx(count_parameters(ours), rel=0.1)


@pytest.mark.parametrize("profile", training.PROFILES)
def test_the_batches_are_real_and_always_the_same(profile: str) -> None:
    made = training.batches(profile, 3, 512)
    for batch, again in zip(made, training.batches(profile, 3, 512), strict=True):
        assert torch.equal(batch.inputs, again.inputs) and (batch.source is None) == (profile == "gpt")
        assert batch.labels.shape == batch.places.shape and batch.inputs.numel() <= 512
        assert 0.85 * batch.inputs.numel() < batch.target_tokens <= batch.inputs.numel()


def test_the_measurement_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "training.json"
    given = ["--profiles", "gpt", "--rounds", "1", "--batches", "1", "--batch_tokens", "256", "--out", str(out)]
    assert training.main(given) == 0
    result = json.loads(out.read_text("utf-8"))
    native = multiplies_bfloat16(torch.device("cpu"))
    assert [run["way"] for run in result["runs"]] == ["as it is", "without bfloat16"][: 1 + native]
    assert result["runs"][-1]["precision"] == "float32"
    assert all(0 < share < 1 for run in result["runs"] for share in run["in_products"])
    assert all(min(run["tokens_per_cpu_second"]) > 0 and run["ratio"] > 0 for run in result["runs"])
    busy = result["busy"]
    alone, beside = busy["tokens_per_second"]
    assert busy["loops"] == busy["threads"] == len(os.sched_getaffinity(0))
    assert busy["share"] == pytest.approx(beside / alone, rel=0.01)
    assert capsys.readouterr().out.startswith(training.training_table(result))
