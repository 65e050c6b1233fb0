"""Every gate at, above and below its threshold; what cannot be measured fails; the choice of what is published.

The floors that need no number stand in tests/evaluation/test_gate_garbage.py.
"""

import math

import pytest

from evaluation.gate import choose, failed, gate, main
from evaluation.results import Evaluation, GateResult
from model.config import ConfigError, GateConfig

NO_RATIO: dict[str, float] = {}


def evaluation(variant="fp32", chrf=(60.0, 40.0), size=1000, **more):
    directions = ("ru-en", "en-ru")
    scores = [
        {"test_set": "heldout", "direction": d, "segments": 10, "bleu": 30.0, "chrf": c, "copying_chrf": 5.0}
        for d, c in zip(directions, chrf, strict=False)
    ]
    figures = {"losses": dict.fromkeys(directions, 2.0), "unigram_entropies": dict.fromkeys(directions, 5.0)}
    plain = {"variant": variant, "task": "translation", "bytes": size, "scores": scores, "loss": 2.0, **figures, **more}
    return Evaluation.model_validate(plain)


def configured(evaluations, config):
    """The rows of the gates that the config asks for."""
    return [result for result in gate(evaluations, config) if result.name.split()[0] not in ("copying", "unigram")]


def only(evaluations, **config):
    """The single row of a config with one gate."""
    rows = configured(evaluations, GateConfig(**{"max_chrf_loss": {}, "max_bytes_ratio": {}, **config}))
    assert len(rows) == 1, rows
    return rows[0]


@pytest.mark.parametrize(
    ("chrf", "passed"),
    [((57.0, 38.0), True), ((57.0, 37.9), False), ((61.0, 41.0), True), ((63.0, 32.0), True), ((63.0, 31.9), False)],
)
def test_relative_chrf_loss_is_of_the_mean_and_met_when_reached(chrf, passed):
    row = only({"fp32": evaluation(), "int8": evaluation("int8", chrf)}, max_chrf_loss={"int8": 0.05})
    assert row.passed is passed
    assert row.value == pytest.approx((50 - sum(chrf) / 2) / 50)
    assert (row.name, row.variant, row.threshold) == ("max_chrf_loss", "int8", 0.05)


def test_the_worst_place_is_named():
    row = only({"fp32": evaluation(), "int8": evaluation("int8", (60.0, 35.0))}, max_chrf_loss={"int8": 0.05})
    assert "worst on heldout/en-ru: 40.00 → 35.00" in row.detail


def test_a_threshold_is_met_whatever_the_last_binary_digit_says():
    base, mine = evaluation(chrf=(57.0,)), evaluation("fp16", chrf=(57.0 * 0.99,))
    assert only({"fp32": base, "fp16": mine}, max_chrf_loss={"fp16": 0.01}).passed is True


@pytest.mark.parametrize("bad", [math.nan, None, "57", math.inf, True])
def test_a_score_that_is_not_a_number_fails(bad):
    for base, mine in (((60.0, 40.0), (60.0, bad)), ((bad, 40.0), (60.0, 40.0))):
        row = only({"fp32": evaluation(chrf=base), "int8": evaluation("int8", mine)}, max_chrf_loss={"int8": 0.05})
        assert row.passed is False and row.value is None
        assert "missing or NaN" in row.detail


def test_a_missing_variant_fails():
    assert only({"fp32": evaluation()}, max_chrf_loss={"int8": 0.05}).detail == "no evaluation of int8 was given"
    row = only({"int8": evaluation("int8")}, max_bytes_ratio={"int8": 0.5})
    assert row.passed is False and row.detail == "no evaluation of fp32 was given"


def test_different_test_sets_cannot_be_compared():
    row = only({"fp32": evaluation(), "int8": evaluation("int8", (60.0,))}, max_chrf_loss={"int8": 0.05})
    assert row.passed is False and "not measured on the same: heldout/en-ru" in row.detail


def test_no_rows_and_a_zero_baseline_fail():
    empty = {"fp32": evaluation(chrf=()), "int8": evaluation("int8", ())}
    assert "no chrF to compare with" in only(empty, max_chrf_loss={"int8": 0.05}).detail
    zero = {"fp32": evaluation(chrf=(0.0, 0.0)), "int8": evaluation("int8", (0.0, 0.0))}
    assert only(zero, max_chrf_loss={"int8": 0.05}).passed is False


def test_nothing_at_all_is_refused():
    with pytest.raises(ValueError, match="no evaluations were given"):
        gate({}, GateConfig())


@pytest.mark.parametrize(("size", "passed"), [(499, True), (500, True), (501, False)])
def test_bytes_ratio(size, passed):
    evaluations = {"fp32": evaluation(), "int8": evaluation("int8", size=size)}
    row = only(evaluations, max_bytes_ratio={"int8": 0.5})
    assert row.passed is passed and row.value == size / 1000


@pytest.mark.parametrize("size", [None, math.nan, 0, -1])
def test_bytes_that_are_missing_fail(size):
    evaluations = {"fp32": evaluation(), "int8": evaluation("int8", size=size)}
    assert only(evaluations, max_bytes_ratio={"int8": 0.5}).passed is False


@pytest.mark.parametrize(("floor", "passed"), [(59.9, True), (60.0, True), (60.1, False)])
def test_floor(floor, passed):
    row = only({"fp32": evaluation()}, min_chrf={"heldout/ru-en": floor})
    assert row.passed is passed and row.value == 60.0 and row.name == "min_chrf heldout/ru-en"


def test_a_floor_binds_every_variant():
    evaluations = {"fp32": evaluation(), "int8": evaluation("int8", (59.0, 40.0))}
    rows = configured(evaluations, GateConfig(max_chrf_loss={}, max_bytes_ratio={}, min_chrf={"heldout/ru-en": 60}))
    assert [(row.variant, row.passed) for row in rows] == [("fp32", True), ("int8", False)]


def test_a_floor_of_a_test_set_that_was_not_given_is_skipped_loudly():
    row = only({"fp32": evaluation()}, min_chrf={"test_docs/ru-en": 57})
    assert row.passed is None and row.value is None and row.variant == "all"
    assert "SKIPPED" in row.detail and "'test_docs' was not given" in row.detail and "TEST=" in row.detail
    assert failed([row]) == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("heldout/ru-de", "measured: heldout/en-ru, heldout/ru-en"),
        ("heldout", "not 'test set/direction'"),
        ("/ru-en", "not 'test set/direction'"),
        ("heldout/", "not 'test set/direction'"),
    ],
)
def test_a_floor_that_names_nothing_fails(place, text):
    row = only({"fp32": evaluation()}, min_chrf={place: 1.0})
    assert row.passed is False and text in row.detail


def test_a_nan_fails_its_floor():
    row = only({"fp32": evaluation(chrf=(math.nan, 40.0))}, min_chrf={"heldout/ru-en": 1.0})
    assert row.passed is False and "missing or NaN" in row.detail


@pytest.mark.parametrize(
    ("loss", "passed"), [(1.99, True), (2.0, True), (2.01, False), (None, False), (math.nan, False)]
)
def test_loss_ceiling(loss, passed):
    assert only({"fp32": evaluation(loss=loss)}, max_loss=2.0).passed is passed


def test_running_text_is_held_to_the_same_share_of_its_loss():
    base = evaluation(chrf=(), task="text", loss=2.0)
    for loss, passed in ((2.1, True), (2.11, False), (math.nan, False)):
        mine = evaluation("int8", (), task="text", loss=loss)
        row = only({"fp32": base, "int8": mine}, max_chrf_loss={"int8": 0.05})
        assert row.passed is passed and "held-out loss" in row.detail


def test_default_gates():
    evaluations = {"fp32": evaluation(), "fp16": evaluation("fp16", size=500), "int8": evaluation("int8", size=280)}
    rows = configured(evaluations, GateConfig())
    assert failed(gate(evaluations, GateConfig())) == []
    assert [(r.name, r.variant) for r in rows] == [
        ("max_chrf_loss", "fp16"),
        ("max_chrf_loss", "int8"),
        ("max_bytes_ratio", "int8"),
    ]


def verdict(variant, passed):
    return GateResult(name="max_loss", variant=variant, threshold=1, value=1, passed=passed)


@pytest.mark.parametrize(
    ("barred", "cpu", "gpu"),
    [
        ([], "int8", "fp16"),
        (["int8"], "fp32", "fp16"),
        (["fp16"], "int8", "fp32"),
        (["int8", "fp16"], "fp32", "fp32"),
        (["fp32"], None, None),
    ],
)
def test_choice(barred, cpu, gpu):
    evaluations = {v: evaluation(v) for v in ("fp32", "fp16", "int8")}
    gates = [verdict(v, v not in barred) for v in evaluations] + [verdict("all", None)]
    assert (choose(evaluations, gates, "cpu"), choose(evaluations, gates, "gpu")) == (cpu, gpu)


def test_choice_takes_only_what_was_measured():
    evaluations = {"fp32": evaluation(), "fp16": evaluation("fp16")}
    assert choose(evaluations, [], "cpu") == "fp32"
    assert choose({"int8": evaluation("int8")}, [], "cpu") is None
    with pytest.raises(ValueError, match="cpu, gpu"):
        choose(evaluations, [], "tpu")


def test_mean_chrf():
    assert evaluation().mean_chrf == 50.0
    assert evaluation(chrf=()).mean_chrf is None
    assert evaluation(chrf=(60.0, math.nan)).mean_chrf is None


def test_command_line(tmp_path, capsys):
    paths = []
    for variant in ("fp32", "fp16", "int8"):
        paths.append(str(tmp_path / f"{variant}.json"))
        size = {"fp32": 1000, "fp16": 500, "int8": 300}[variant]
        (tmp_path / f"{variant}.json").write_text(evaluation(variant, size=size).model_dump_json())
    assert main([*paths, "--floor", "heldout/ru-en=60"]) == 0
    told = capsys.readouterr().out
    assert "chrF floor heldout/ru-en" in told and told.endswith("publish on cpu: int8  on gpu: fp16\n")
    assert main([*paths, "--floor", "heldout/ru-en=60.1"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("floor", ["heldout/ru-en=x", "heldout/ru-en=101", "heldout/ru-en=nan"])
def test_a_floor_that_is_none_is_refused(tmp_path, floor):
    (tmp_path / "fp32.json").write_text(evaluation().model_dump_json())
    with pytest.raises(ConfigError, match=r"gate\.min_chrf"):
        main([str(tmp_path / "fp32.json"), "--floor", floor])
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "fp32.json"), "--floor", "60"])
