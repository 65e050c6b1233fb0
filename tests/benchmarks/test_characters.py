"""A decoder of characters beside nanoGPT's recipe: the loss counts every character once, and the measurement runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import characters


@pytest.mark.parametrize("length", [2, 8, 9, 700, 64 * 8 + 1, 64 * 8 + 5])
def test_the_loss_is_that_of_every_character_but_the_first(length: int) -> None:
    """A model that knows how likely each character is to follow the one before it."""
    torch.manual_seed(0)
    table, ids = torch.randn(11, 11), torch.randint(11, (length,))
    expected = F.cross_entropy(table[ids[:-1]], ids[1:]).item()
    assert characters.loss(lambda rows: table[rows], ids, 8) == pytest.approx(expected, rel=1e-5)


def test_no_window_sees_beyond_itself() -> None:
    widths = []

    def uniform(rows: torch.Tensor) -> torch.Tensor:
        widths.append(rows.shape[1])
        return torch.zeros(*rows.shape, 5)

    assert characters.loss(uniform, torch.zeros(100, dtype=torch.long), 16) == pytest.approx(math.log(5))
    assert widths == [16, 3]


def test_the_measurement_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = np.random.default_rng(0).choice(list("abcdefghij .\n"), 40_000)
    text, out = tmp_path / "noise.txt", tmp_path / "characters.json"
    text.write_text("".join(drawn), "utf-8")
    given = ["--steps", "12", "--batch_tokens", "512", "--positions", "64", "--out", str(out)]
    assert characters.main([str(text), *given]) == 0
    result = json.loads(out.read_text("utf-8"))
    ours, other = result["records"]
    assert other["parameters"] == pytest.approx(ours["parameters"], rel=0.1)
    assert other["characters"] == 12 * 12 * 64 and ours["steps"] == 18
    assert all(0 < record["loss"] < math.log(256) for record in result["records"])
    assert characters.characters_table(result) in capsys.readouterr().out
