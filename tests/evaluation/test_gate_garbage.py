"""Garbage is never published: the floors that need no number."""

import math

import pytest

from evaluation.figures import gate_figures
from evaluation.gate import choose, failed, gate
from evaluation.outcome import reasons
from evaluation.results import Evaluation
from model.config import GateConfig

LOOSE = GateConfig(max_chrf_loss={}, max_bytes_ratio={})
BOTH = ("ru-en", "en-ru")


def evaluation(**plain):
    return Evaluation.model_validate(plain)


def translation(chrf=(60.0, 40.0), copying=(5.0, 5.0), losses=(2.0, 2.0), entropies=(5.0, 5.0)):
    scores = [
        {"test_set": "heldout", "direction": d, "chrf": c, "copying_chrf": k}
        for d, c, k in zip(BOTH, chrf, copying, strict=True)
    ]
    figures = {"losses": dict(zip(BOTH, losses, strict=True))}
    figures["unigram_entropies"] = dict(zip(BOTH, entropies, strict=True))
    return evaluation(task="translation", bytes=1, scores=scores, loss=2.0, **figures)


def text(loss=2.0, entropy=3.0):
    return evaluation(task="text", bytes=1, loss=loss, losses={"text": loss}, unigram_entropies={"text": entropy})


def broken(measured):
    """Names of the gates that fail, with no gate configured at all."""
    return [result.name for result in failed(gate({"fp32": measured}, LOOSE))]


def test_an_honest_model_passes_both_in_each_direction():
    rows = gate({"fp32": translation()}, LOOSE)
    names = ["copying heldout/ru-en", "copying heldout/en-ru", "unigram ru-en", "unigram en-ru"]
    assert sorted(row.name for row in rows) == sorted(names) and failed(rows) == []
    (row,) = gate({"fp32": text()}, LOOSE)
    assert (row.name, row.threshold, row.value, row.passed) == ("unigram text", 3.0, 2.0, True)


@pytest.mark.parametrize(
    ("measured", "names"),
    [
        (translation(chrf=(5.0, 40.0)), ["copying heldout/ru-en"]),  # as good as a copy is not better than one
        (translation(chrf=(60.0, 4.9)), ["copying heldout/en-ru"]),
        (translation(chrf=(0.0, 0.0), copying=(0.0, 0.0)), ["copying heldout/en-ru", "copying heldout/ru-en"]),
        (translation(chrf=(71.0, 69.0), copying=(70.0, 70.0)), ["copying heldout/en-ru"]),  # near-identical languages
        (translation(losses=(5.0, 2.0)), ["unigram ru-en"]),
        (translation(losses=(2.0, 7.0)), ["unigram en-ru"]),
        (text(3.0), ["unigram text"]),
    ],
)
def test_garbage_fails_in_the_direction_where_it_is_garbage(measured, names):
    assert sorted(broken(measured)) == names


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "1", True])
def test_a_figure_that_is_missing_or_no_number_fails(bad):
    for field in ("chrf", "copying", "losses", "entropies"):
        assert len(broken(translation(**{field: (bad, bad)}))) == 2, field
    assert broken(text(bad)) == broken(text(entropy=bad)) == ["unigram text"]


@pytest.mark.parametrize("missing", ["scores", "losses", "unigram_entropies"])
def test_an_evaluation_without_the_figures_fails(missing):
    for value in (None, [] if missing == "scores" else {}, "absent"):
        plain = {**translation().model_dump(), missing: value}
        if value == "absent":
            del plain[missing]
        assert broken(evaluation(**plain)), value
    assert broken(evaluation(task="translation")) and broken(evaluation(task="text")) and broken(evaluation())


def test_a_test_set_of_placeholders_does_not_bar_a_good_model():
    plain = translation().model_dump()
    plain["scores"].append({"test_set": "ui", "direction": "ru-en", "chrf": 99.0, "copying_chrf": 100.0})
    assert broken(evaluation(**plain)) == []


def test_garbage_is_published_in_no_variant():
    bad = translation(losses=(5.0, 2.0))
    evaluations = {"fp32": bad, "fp16": translation(), "int8": translation()}
    assert choose(evaluations, gate(evaluations, LOOSE), "cpu") is None
    assert choose(evaluations, gate(evaluations, LOOSE), "gpu") is None
    evaluations = {"fp32": translation(), "fp16": translation(), "int8": bad}
    assert choose(evaluations, gate(evaluations, LOOSE), "cpu") == "fp32"


def test_the_reason_holds_the_figures_and_what_to_do():
    gates = gate({"fp32": translation(chrf=(1.5, 40.0), losses=(2.0, 7.5))}, LOOSE)
    copying, unigram = reasons({"gates": gates})
    assert "copying heldout/ru-en of fp32: 1.50, must be > 5 (no more than handing back the source" in copying
    assert "unigram en-ru of fp32: 7.500, must be < 5 (no better than knowing how often each token" in unigram
    for reason in (copying, unigram):
        assert "train longer (training.steps)" in reason and "loss curve" in reason
    assert gate_figures(gates[0])[0].startswith("chrF against copying the source")
