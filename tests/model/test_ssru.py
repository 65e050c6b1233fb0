"""The recurrent decoder: its scan against the recurrence step by step, its gradient, and what it may see."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import ConfigError, NetworkConfig, from_dict, to_dict
from model.network import Transformer
from model.ssru import SSRU, scan

CONFIG = NetworkConfig(
    d_model=48, encoder_layers=1, decoder_layers=2, heads=4, head_dim=16, d_ff=96, decoder_mixer="ssru"
)


def step_by_step(decay: Tensor, update: Tensor) -> Tensor:
    state, states = torch.zeros_like(update[:, 0]), []
    for t in range(update.shape[1]):
        state = decay[:, t] * state + update[:, t]
        states.append(state)
    return torch.stack(states, 1)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 100, 257])
def test_the_scan_is_the_recurrence(length: int) -> None:
    torch.manual_seed(length)
    decay, update = torch.rand(3, length, 5, dtype=torch.float64), torch.randn(3, length, 5, dtype=torch.float64)
    torch.testing.assert_close(scan(decay, update), step_by_step(decay, update), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 7, 9, 20])
def test_its_gradient_is_autograds_of_the_recurrence(length: int) -> None:
    torch.manual_seed(length)
    leaves = [torch.rand(2, length, 3, dtype=torch.float64), torch.randn(2, length, 3, dtype=torch.float64)]
    into, found, expected = torch.randn(2, length, 3, dtype=torch.float64), [], []
    for function, kept in ((scan, found), (step_by_step, expected)):
        given = [leaf.clone().requires_grad_() for leaf in leaves]
        (function(*given) * into).sum().backward()
        kept += [leaf.grad for leaf in given]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gate", [0.0, 1e-30, 1.0])
def test_shut_and_open_gates_are_exact_over_a_long_text(gate: float) -> None:
    """Where quotients of cumulative products are 0 / 0, and cumulative sums of logarithms lose all digits."""
    update = torch.randn(1, 2000, 4)
    decay = torch.full_like(update, gate)
    expected = step_by_step(decay.double(), update.double())
    torch.testing.assert_close(scan(decay, update).double(), expected, rtol=1e-5, atol=1e-4)


def test_it_is_the_unit_of_the_paper() -> None:
    torch.manual_seed(0)
    unit, x = SSRU(CONFIG), torch.randn(2, 9, 48)
    forget = torch.sigmoid(x @ unit.forget.weight.T + unit.forget.bias)
    state, outputs = torch.zeros(2, 48), []
    for t in range(9):
        state = forget[:, t] * state + (1 - forget[:, t]) * (x[:, t] @ unit.candidate.weight.T)
        outputs.append(state.relu())
    torch.testing.assert_close(unit(x), torch.stack(outputs, 1), rtol=1e-5, atol=1e-5)


def test_it_remembers_one_token_and_many() -> None:
    torch.manual_seed(0)
    spans = 1 / (1 - torch.sigmoid(SSRU(NetworkConfig(decoder_mixer="ssru")).forget.bias))  # tokens
    assert spans.min() < 4 and spans.max() > 48


def test_the_unit_learns_from_the_first_step() -> None:
    """Its output is projected by nothing, so none of its own matrices may start at zero."""
    torch.manual_seed(1)
    network = Transformer(CONFIG, 60)
    source, target = torch.randint(4, 60, (4, 9)), torch.randint(4, 60, (4, 6))
    F.cross_entropy(network(source, target).flatten(0, 1), target.flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if ".ssru" in name}
    assert len(gradients) == 2 * 4
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())


def test_no_position_sees_the_future_or_another_row() -> None:
    torch.manual_seed(1)
    network = Transformer(CONFIG, 60).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    source, ids = torch.randint(4, 60, (2, 9)), torch.randint(4, 60, (2, 12))
    changed = ids.clone()
    changed[0, 8:] = 5
    before, after = network(source, ids), network(source, changed)
    torch.testing.assert_close(before[0, :8], after[0, :8])
    torch.testing.assert_close(before[1], after[1])
    assert not torch.allclose(before[0, 8:], after[0, 8:])


def test_a_decoder_without_a_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="ssru is for seq2seq networks"):
        from_dict(NetworkConfig, {"family": "decoder", "decoder_mixer": "ssru"})


def test_attention_is_written_as_before_there_was_a_choice() -> None:
    assert "decoder_mixer" not in to_dict(NetworkConfig())
    written = to_dict(CONFIG)
    assert written["decoder_mixer"] == "ssru" and from_dict(NetworkConfig, written) == CONFIG
