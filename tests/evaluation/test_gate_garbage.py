"""Garbage is never published: the floors that need no number, and gates on figures that cannot exist."""

import math
import re
from pathlib import Path

import pytest

from evaluation.figures import gate_figures, reasons
from evaluation.gate import choose, failed, gate, impossible
from model.config import GateConfig, Profile, from_dict
from pipelines.settings import UsageError, check_floors, load_profile

LOOSE = GateConfig(max_chrf_loss={}, max_bytes_ratio={})
BOTH = ("ru-en", "en-ru")


def translation(chrf=(60.0, 40.0), copying=(5.0, 5.0), losses=(2.0, 2.0), entropies=(5.0, 5.0)):
    rows = [
        {"test_set": "heldout", "direction": d, "chrf": c, "copying_chrf": k}
        for d, c, k in zip(BOTH, chrf, copying, strict=True)
    ]
    figures = {"losses": dict(zip(BOTH, losses, strict=True))}
    figures["unigram_entropies"] = dict(zip(BOTH, entropies, strict=True))
    return {"task": "translation", "bytes": 1, "rows": rows, "loss": 2.0, **figures}


def text(loss=2.0, entropy=3.0):
    return {
        "task": "text", "bytes": 1, "rows": [], "loss": loss,
        "losses": {"text": loss}, "unigram_entropies": {"text": entropy},
    }  # fmt: skip


def broken(evaluation):
    """Names of the gates that fail, with no gate configured at all."""
    return [row["name"] for row in failed(gate({"fp32": evaluation}, LOOSE))]


def test_an_honest_model_passes_both_in_each_direction():
    rows = gate({"fp32": translation()}, LOOSE)
    names = ["copying heldout/ru-en", "copying heldout/en-ru", "unigram ru-en", "unigram en-ru"]
    assert sorted(row["name"] for row in rows) == sorted(names) and failed(rows) == []
    (row,) = gate({"fp32": text()}, LOOSE)
    assert (row["name"], row["threshold"], row["value"], row["passed"]) == ("unigram text", 3.0, 2.0, True)


@pytest.mark.parametrize(
    ("evaluation", "names"),
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
def test_garbage_fails_in_the_direction_where_it_is_garbage(evaluation, names):
    assert sorted(broken(evaluation)) == names


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "1", True])
def test_a_figure_that_is_missing_or_no_number_fails(bad):
    for field in ("chrf", "copying", "losses", "entropies"):
        assert len(broken(translation(**{field: (bad, bad)}))) == 2, field
    assert broken(text(bad)) == broken(text(entropy=bad)) == ["unigram text"]


@pytest.mark.parametrize("missing", ["rows", "losses", "unigram_entropies"])
def test_an_evaluation_without_the_figures_fails(missing):
    for value in (None, [], "absent"):
        evaluation = translation()
        evaluation[missing] = value if missing == "rows" else value and {}
        if value == "absent":
            del evaluation[missing]
        assert broken(evaluation), value
    assert broken({"task": "translation"}) and broken({"task": "text"}) and broken({})


def test_a_test_set_of_placeholders_does_not_bar_a_good_model():
    evaluation = translation()
    evaluation["rows"].append({"test_set": "ui", "direction": "ru-en", "chrf": 99.0, "copying_chrf": 100.0})
    assert broken(evaluation) == []


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


DIRECTION = r"heldout/ru-en, heldout/en-ru.* cannot be measured.*\[de, en\].*SET='gate.min_chrf=\{\}'.*heldout/de-en"


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        ("demo", ["corpus.languages=[de, en]"], DIRECTION),
        ("small", ["corpus.languages=[de, en]"], DIRECTION),
        ("tiny", ["gate.min_chrf={heldout/ru-de: 1}"], r"heldout/ru-de cannot be measured"),
        ("tiny", ["gate.min_chrf={heldout: 1}"], r"'heldout' is not 'test set/direction', as in 'heldout/ru-en'"),
        ("tiny", ["gate.min_chrf={heldout/ru-en: 101}"], r"gate.min_chrf.heldout/ru-en: must be at most 100"),
        ("tiny", ["gate.min_chrf={heldout/ru-en: .nan}"], r"must be a finite number, not nan"),
        ("tiny", ["gate.max_chrf_loss={int9: 0.1}"], r"max_chrf_loss.int9: 'int9' is not one of fp16, int8"),
        ("tiny", ["gate.max_bytes_ratio={fp32: 0.1}"], r"max_bytes_ratio.fp32: 'fp32' is not one of"),
        ("tiny", ["gate.max_bytes_ratio={int8: .nan}"], r"max_bytes_ratio.int8: must be a finite number, not nan"),
        ("tiny", ["gate.max_loss=.nan"], r"max_loss: must be a finite number.*0 is none"),
        ("gpt", ["gate.min_chrf={heldout/ru-en: 40}"], r"no translation to score.*gate.max_loss"),
        ("tiny", ["evaluation.loss_rows=0"], r"evaluation.loss_rows: must be at least 1, not 0"),
        ("tiny", ["evaluation.max_rows=-1"], r"evaluation.max_rows: must be at least 0, not -1"),
        ("tiny", ["corpus.heldout_rows=0"], r"corpus.heldout_rows: must be at least 1, not 0"),
        ("gpt", ["corpus.valid_rows=0"], r"corpus.valid_rows: must be at least 1, not 0"),
        ("tiny", ["training.steps=-5"], r"training.steps: must be at least 1, not -5"),
        ("tiny", ["training.batch_tokens=-1"], r"training.batch_tokens: must be at least 1"),
        ("tiny", ["training.eval_every=0"], r"training.eval_every: must be at least 1"),
        ("tiny", ["quantization.calibration_rows=0"], r"quantization.calibration_rows: must be at least 1"),
    ],
)
def test_what_could_never_be_measured_is_refused_before_anything_runs(profile, settings, message):
    with pytest.raises(UsageError, match=message):
        load_profile(profile, settings)


def test_the_settings_that_the_refusal_names_are_taken():
    with pytest.raises(UsageError) as refused:
        load_profile("small", ["corpus.languages=[de, en]"])
    cures = re.findall(r"SET='([^']+)'", str(refused.value))
    assert len(cures) == 2
    for cure in cures:
        load_profile("small", ["corpus.languages=[de, en]", cure])


def test_readmes_line_for_other_languages_is_taken_as_printed():
    readme = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8").split())
    line = readme.partition("Other languages are ")[2].partition(": those of")[0]
    languages, floors, none = re.findall(r"`SET='([^']+)'`", line)
    assert languages.startswith("corpus.languages=")
    for profile in ("demo", "small", "tiny"):
        assert load_profile(profile, [languages, floors]).gate.min_chrf
        assert not load_profile(profile, [languages, none]).gate.min_chrf


def test_all_problems_are_told_together():
    data = {"corpus": {"heldout_rows": 0, "valid_rows": 0}, "gate": {"min_chrf": {"a": 1}}}
    assert len(impossible(from_dict(Profile, data))) == 3
    assert impossible(Profile()) == []


def test_a_floor_asked_of_a_run_needs_its_test_set(tmp_path):
    asked = ["gate.min_chrf={test_dcos/ru-en: 50, heldout/ru-en: 50}"]
    with pytest.raises(UsageError, match=r"test_dcos/ru-en cannot be measured.*are heldout, test_docs; give the file"):
        check_floors(asked, ["pairs.tsv"], ["a/test_docs.tsv.gz"])
    check_floors(asked, ["pairs.tsv"], ["a/test_dcos.tsv"])
    check_floors(asked, [str(tmp_path)], [])  # a folder may hold a test set
    check_floors(["training.steps=5", "gate.min_chrf={}", "nonsense"], [], [])
    check_floors([], ["pairs.tsv"], [])  # the profile's own floors serve many runs: skipped, and said to be
