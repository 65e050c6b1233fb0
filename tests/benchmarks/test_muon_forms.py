"""The forms of Muon: what each is to do with a matrix, and the measurement in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import muon
from benchmarks.muon import FORMS, Both, NorMuon, PolarExpress, moved_by, muon_table
from model.training import optimizer
from model.training.muon import Muon, orthogonal
from tests.helpers.training import SETTINGS, corpus_and_tokenizer


def moved(form: type[Muon], gradient: torch.Tensor, steps: int = 1) -> torch.Tensor:
    """The last of the moves of a matrix that has the same gradient at each step."""
    matrix = nn.Parameter(torch.zeros_like(gradient))
    made = form([matrix], lr=1.0)
    for _ in range(steps):
        before, matrix.grad = matrix.detach().clone(), gradient.clone()
        made.step()
    return before - matrix.detach()


@pytest.mark.parametrize("shape", [(48, 64), (64, 48)])
def test_polar_express_comes_closer_where_singular_values_are_small(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    gradient = u * torch.logspace(0, -2.5, 48) @ v
    values = {form: torch.linalg.svdvals(moved(form, gradient)) for form in (Muon, PolarExpress)}
    scale = max(1.0, shape[0] / shape[1]) ** 0.5
    spread = {form: (found / scale - 1).abs().mean() for form, found in values.items()}
    assert spread[PolarExpress] < spread[Muon]
    assert values[PolarExpress].max() / scale < 1.2


@pytest.mark.parametrize("form", [NorMuon, Both])
@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_neurons_move_alike_and_the_matrix_as_far_as_before(form: type[Muon], shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(*shape) * torch.logspace(0, 1, shape[0])[:, None]
    plain, alike = (moved(one, gradient, steps=3) for one in (form.__mro__[2] if form is Both else Muon, form))
    assert alike.norm().item() == pytest.approx(plain.norm().item(), rel=1e-4)
    assert alike.norm(dim=1).std() < 1e-3 * alike.norm(dim=1).mean()
    if shape[0] > shape[1]:
        assert plain.norm(dim=1).std() > 0.05 * plain.norm(dim=1).mean()


def test_another_form_trains_only_where_it_is_asked_to() -> None:
    with pytest.raises(ValueError, match="mine"), moved_by(NorMuon):
        assert optimizer.Muon is NorMuon
        raise ValueError("mine")
    assert optimizer.Muon is Muon
    assert torch.equal(orthogonal(torch.eye(4)[None]), orthogonal(torch.eye(4)[None]))


def test_every_form_with_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, tokenizer = corpus_and_tokenizer(tmp_path)
    out = tmp_path / "muon.json"
    command = [str(corpus), str(tokenizer), "--profile", "tiny", "--out", str(out), "--seeds", "3", "4"]
    assert muon.main([*command, "--set", *SETTINGS]) == 0
    result = json.loads(out.read_text("utf-8"))
    assert [(found["form"], found["seed"]) for found in result["runs"]] == [(f, s) for s in (3, 4) for f in FORMS]
    assert len({found["valid_loss"] for found in result["runs"]}) == 8
    assert len({found["train_tokens"] for found in result["runs"] if found["seed"] == 3}) == 1
    table = muon_table(result)
    assert table in capsys.readouterr().out
    assert table.splitlines()[0] == "| form | seed 3 | seed 4 | mean | seconds |"
