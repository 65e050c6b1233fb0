"""Muon: its steps are those of PyTorch's, in float32 more exact, and its state survives saving."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model.config import NetworkConfig, TrainingConfig
from model.network import Transformer
from model.training.muon import Muon, orthogonal
from model.training.optimizer import build_optimizers
from model.training.precision import multiplies_bfloat16

SHAPES = [(24, 24), (16, 40), (40, 16), (8, 24), (16, 40)]


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def steps(optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        for group in optimizer.param_groups:
            for matrix in group["params"]:
                matrix.grad = torch.randn_like(matrix) + matrix.detach()
        optimizer.step()


@pytest.mark.parametrize("shape", [(3, 16, 80), (2, 32, 32), (1, 8, 8)])
def test_singular_values_become_alike_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.05, 1.0, shape[1])
    made = left.mT @ orthogonal(left * values @ right) @ right.mT
    assert torch.allclose(made, torch.diag_embed(made.diagonal(dim1=1, dim2=2)), atol=1e-4)
    assert ((made.diagonal(dim1=1, dim2=2) > 0.6) & (made.diagonal(dim1=1, dim2=2) < 1.3)).all()


@pytest.mark.parametrize("shape", [(2, 24, 120), (2, 24, 24)])
def test_float32_agrees_with_the_plain_iteration_in_float64(shape: tuple[int, int, int]) -> None:
    """Where a matrix is wide, its Gram matrix is iterated in its place; small singular values must survive that."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    x = left * torch.logspace(0, -5, shape[1]) @ right
    plain = x.double() / x.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = plain @ plain.mT
        plain = 3.4445 * plain + (-4.7750 * gram + 2.0315 * gram @ gram) @ plain
    assert (orthogonal(x).double() - plain).norm() < 1e-3 * plain.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.02), (torch.bfloat16, 0.03)])
def test_its_steps_are_those_of_pytorch(dtype: torch.dtype, tolerance: float) -> None:
    """PyTorch's multiplies in bfloat16 everywhere: the steps agree as far as that does."""
    ours, theirs, before = matrices(), matrices(), matrices()
    torch.manual_seed(1)
    steps(Muon(ours, lr=0.02, weight_decay=0.1, dtype=dtype), 3)
    torch.manual_seed(1)
    steps(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="original"), 3)
    for mine, other, start in zip(ours, theirs, before, strict=True):
        assert (mine - other).norm() < tolerance * (other - start).norm()


def test_a_matrix_without_a_gradient_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, before = matrices(), matrices()
    optimizer = Muon(ours, lr=0.1, weight_decay=0.5)
    ours[1].grad = torch.ones_like(ours[1])
    optimizer.step()
    same = [torch.equal(one, start) for one, start in zip(ours, before, strict=True)]
    assert same == [True, False, True, True, True]


def test_saved_state_goes_on_bit_for_bit() -> None:
    whole, halved = matrices(), matrices()
    torch.manual_seed(1)
    steps(Muon(whole, lr=0.02), 4)
    torch.manual_seed(1)
    first = Muon(halved, lr=0.02)
    steps(first, 2)
    saved = copy.deepcopy(first.state_dict())
    assert {tensor.dtype for state in saved["state"].values() for tensor in state.values()} == {torch.float32}
    second = Muon(halved, lr=0.02)
    second.load_state_dict(saved)
    steps(second, 2)
    assert all(torch.equal(one, other) for one, other in zip(whole, halved, strict=True))


def test_what_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that the user has set for oneDNN counts: what it then does with bfloat16 is emulation."""
    cpu = torch.device("cpu")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    native = torch.cpu._is_avx512_bf16_supported()
    assert multiplies_bfloat16(cpu) is native
    for limit, has in [("AVX512_CORE_VNNI", False), ("avx2", False), ("avx512_core_bf16", True), ("ALL", True)]:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert multiplies_bfloat16(cpu) is (has and native), limit
        network = Transformer(NetworkConfig(d_model=32, d_ff=64, encoder_layers=1, decoder_layers=1), 50)
        muon, _ = build_optimizers(network, TrainingConfig())
        assert isinstance(muon, Muon) and (muon.dtype is torch.bfloat16) is (has and native)


def test_validation_multiplies_once() -> None:
    """The gradient of the vocabulary's projection costs twice the loss itself."""
    from torch.utils.flop_counter import FlopCounterMode

    from model.training.loss import linear_cross_entropy

    features, weight = torch.randn(64, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    labels = torch.arange(64) % 50

    def counted() -> tuple[int, float]:
        with FlopCounterMode(display=False) as counter:
            loss = linear_cross_entropy(features, weight, labels)
        return counter.get_total_flops(), loss.item()

    with torch.no_grad():
        bare, value = counted()
    full, expected = counted()
    assert full == 3 * bare and bare == 2 * 64 * 4 * 50
    assert (
        value
        == expected
        == pytest.approx(nn.functional.cross_entropy(features @ weight.T, labels, reduction="sum").item(), rel=1e-5)
    )
