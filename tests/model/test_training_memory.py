"""What training keeps for its gradients: less where activations are recomputed, for the same gradients bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config import NetworkConfig
from model.network import Transformer
from model.training.loop import train
from model.training.loss import linear_cross_entropy
from tests.helpers.training import CONFIG, NETWORK, assert_same, break_off, curve, weights

ROWS, LENGTH, VOCABULARY = 16, 256, 200
DEEP = NetworkConfig(d_model=64, heads=2, head_dim=32, d_ff=320, dropout=0.1)  # of profile small's depths


def kept(network: Transformer, dtype: torch.dtype) -> int:
    """Bytes that a pass keeps for its gradients, which it leaves in the network; each tensor counts once."""
    generator, found = torch.Generator().manual_seed(0), dict[int, Tensor]()
    source, inputs, labels = torch.randint(4, VOCABULARY, (3, ROWS, LENGTH), generator=generator)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            found[place] = tensor  # held, so that no other tensor gets its place
        return tensor

    network.zero_grad()
    torch.manual_seed(1)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        features = network.features(source, inputs).flatten(0, 1).to(dtype)
        loss = linear_cross_entropy(features, network.embedding.weight, labels.flatten())
    total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    loss.backward()
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_activations_take_little_memory_and_leave_the_same_gradients(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = Transformer(DEEP, VOCABULARY).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    all_of_them = kept(network, dtype)
    gradients = [parameter.grad for parameter in network.parameters()]
    network.recompute_activations()
    assert kept(network, dtype) < 0.62 * all_of_them
    assert all(
        one is not None and other.grad is not None and torch.equal(one, other.grad)
        for one, other in zip(gradients, network.parameters(), strict=True)
    )


def test_a_run_may_go_on_with_less_memory_exactly(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws the same in a layer that is computed twice, and in the layers after it."""
    network = NETWORK.model_copy(update={"dropout": 0.2})
    monkeypatch.setattr("tests.helpers.training.NETWORK", network)
    train(parallel[0], *parallel, tmp_path / "kept", network, CONFIG)
    break_off(parallel, tmp_path / "recomputed", monkeypatch, 12)
    less = CONFIG.model_copy(update={"activations": "recomputed"})
    train(parallel[0], *parallel, tmp_path / "recomputed", network, less)
    assert_same(weights(tmp_path / "kept"), weights(tmp_path / "recomputed"))
    assert curve(tmp_path / "kept") == curve(tmp_path / "recomputed")
