"""The network against independent computations: a plain attention, causality, masking, parameter counts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import NetworkConfig, from_dict
from model.fused import attend_folded, rotate
from model.network import Transformer, attend_fused, count_parameters, rotary_tables
from model.training.loss import linear_cross_entropy

SEQ2SEQ = NetworkConfig(d_model=48, encoder_layers=2, decoder_layers=2, heads=4, kv_heads=2, head_dim=16, d_ff=96)
DECODER = from_dict(
    NetworkConfig, {"preset": "mini-gpt", "d_model": 32, "heads": 2, "head_dim": 16, "d_ff": 64, "decoder_layers": 2}
)


def lively(config: NetworkConfig, vocab_size: int = 60):
    """A network whose zero-initialised projections are not zero, so that every layer has a say."""
    torch.manual_seed(1)
    network = Transformer(config, vocab_size).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("causal", [False, True])
def test_attend_equals_torch_and_so_do_its_gradients(heads: int, kv_heads: int, causal: bool) -> None:
    torch.manual_seed(0)
    parts = torch.randn(3, heads, 7, 16), torch.randn(3, kv_heads, 7, 16), torch.randn(3, kv_heads, 7, 16)
    mask = None if causal else torch.arange(7)[None, None, None, :] < torch.tensor([7, 3, 1])[:, None, None, None]
    into = torch.randn(3, heads, 7, 16)

    def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=True)

    expected = plain(*(leaves := [part.clone().requires_grad_() for part in parts]))
    (expected * into).sum().backward()
    for ours in (attend_folded, attend_fused):  # what takes short texts on a CPU, and all others
        mine = [part.clone().requires_grad_() for part in parts]
        found = ours(*(part.transpose(1, 2) for part in mine), mask, causal).transpose(1, 2)
        (found * into).sum().backward()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        for leaf, other in zip(mine, leaves, strict=True):
            torch.testing.assert_close(leaf.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_rotary_scores_depend_on_distance_only() -> None:
    cos, sin = rotary_tables(32, 16, 10000.0)
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(i: int, j: int) -> float:
        return float(
            (rotate(query, cos[i : i + 1], sin[i : i + 1]) * rotate(key, cos[j : j + 1], sin[j : j + 1])).sum()
        )

    assert score(3, 1) == pytest.approx(score(20, 18), abs=1e-4)
    assert score(3, 1) != pytest.approx(score(3, 2), abs=1e-4)


def test_no_position_sees_the_future() -> None:
    network = lively(DECODER)
    ids = torch.randint(4, 60, (2, 12))
    changed = ids.clone()
    changed[:, 8:] = 5
    before, after = network(None, ids), network(None, changed)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


def test_padding_of_the_source_changes_nothing() -> None:
    network = lively(SEQ2SEQ)
    source, target = torch.randint(4, 60, (1, 9)), torch.randint(4, 60, (1, 6))
    padded = F.pad(source, (0, 5))
    torch.testing.assert_close(network(source, target), network(padded, target), atol=1e-5, rtol=1e-5)


def test_preset_size() -> None:
    """8-9 M parameters with an 8,000-piece vocabulary, as promised."""
    with torch.device("meta"):
        network = Transformer(from_dict(NetworkConfig, {"preset": "prometheus-8m"}), 8000)
    assert count_parameters(network) == 8_870_144


def test_too_long_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 300 tokens is longer than max_positions=256"):
        lively(DECODER)(None, torch.ones(1, 300, dtype=torch.long))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_blocked_cross_entropy_equals_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    features = torch.randn(900, 24, requires_grad=True)
    weight = torch.randn(4000, 24, requires_grad=True)  # 500 rows a block: the last block is ragged
    labels = torch.randint(0, 4000, (900,))
    expected = F.cross_entropy(features @ weight.T, labels, reduction="sum", label_smoothing=smoothing)
    actual = linear_cross_entropy(features, weight, labels, smoothing)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-2)
    wanted = torch.autograd.grad(expected * 0.5, (features, weight))
    found = torch.autograd.grad(actual * 0.5, (features, weight))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
