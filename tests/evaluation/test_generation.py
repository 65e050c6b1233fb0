"""Greedy or beams by default: what pays is chosen, and its cost told; what gains too little, or by luck, is not."""

import json
import math
import re

import pytest

from evaluation.gate import decide
from evaluation.generation import generation
from evaluation.report.page import render_report
from evaluation.results import Evaluation, Summary, Verdict
from evaluation.table import result_table
from model.config import ConfigError, GateConfig, Profile, from_dict

PLACES = [("heldout", "ru-en"), ("heldout", "en-ru")]


def measured(gains=(0.5, 0.3), p=0.001, together=0.4, variant="int8", **more) -> Evaluation:
    """Greedy at 50 chrF in 10 s a set, and a search of 4 beams that gains so much in 30 s."""
    scores = [
        {"test_set": t, "direction": d, "segments": 100, "bleu": 30.0, "chrf": 50.0, "copying_chrf": 5.0, "seconds": 10}
        for t, d in PLACES
    ]
    searched = [
        {**score, "test_set": "heldout, 4 beams", "beams": 4, "chrf": 50.0 + gain, "plain_chrf": 50.0, "seconds": 30}
        for score, gain in zip(scores, gains, strict=True)
    ]
    search = {"beams": 4, "scores": searched, "chrf": 50.0 + together, "plain_chrf": 50.0, "p": p}
    plain = {"task": "translation", "bytes": 1000, "scores": scores, "search": search, "loss": 2.0}
    plain |= {"losses": {"ru-en": 2.0, "en-ru": 2.0}, "unigram_entropies": {"ru-en": 5.0, "en-ru": 5.0}}
    return Evaluation.model_validate({"variant": variant, **plain, **more})


def test_beams_that_pay_are_the_default_and_their_cost_is_told():
    found = generation(measured(), GateConfig())
    assert found.beams == 4
    assert found.why == (
        "4 beams gain +0.40 chrF as a mean of 2, p = 0.001; 3.3 texts a second, 10.0 greedily (3.0 times the time)"
    )


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (measured((0.4, 0.1)), r"gain \+0\.25 chrF .*: less than 0\.3 \(gate\.min_beam_gain\)"),
        (measured((-0.4, -0.1)), r"gain -0\.25 chrF .*: less than 0\.3"),
        (measured((0.0, 0.0), p=1.0, together=0.0), r"gain \+0\.00 chrF .*: less than 0\.3"),
        (measured(p=0.05), "p = 0.050.*: it may be luck"),
        (measured((2.0, 0.0), together=-0.1), "gain .*: it may be luck"),
        (measured((math.nan, 0.9)), "chrF of 4 beams is missing or NaN"),
        (measured(p=None), "chrF of 4 beams is missing or NaN"),
        (measured(search=None), r"no beams of int8 were measured \(evaluation\.beams, evaluation\.beam_variants\)"),
    ],
)
def test_what_does_not_pay_stays_greedy(evaluation, words):
    found = generation(evaluation, GateConfig())
    assert found.beams == 1
    assert re.search(words, found.why), found.why


def test_a_tie_is_no_gain_even_where_none_is_asked_for():
    config = GateConfig(min_beam_gain=0)
    tie = measured((0.0, 0.0), p=1.0, together=0.0)
    assert generation(tie, config).beams == 1
    assert generation(measured((0.1, 0.0)), config).beams == 4


def test_the_gain_is_met_when_reached():
    assert generation(measured((0.3, 0.3)), GateConfig()).beams == 4
    assert generation(measured((0.3, 0.29)), GateConfig()).beams == 1


@pytest.mark.parametrize("beams", [1, 2, 8])
def test_a_person_may_decide(beams):
    found = generation(measured((-5.0, -5.0)), GateConfig(default_beams=beams))
    assert (found.beams, found.why) == (beams, "set by gate.default_beams")


def test_running_text_has_no_beams():
    assert generation(Evaluation(variant="int8", task="text"), GateConfig()).beams == 1
    with pytest.raises(ConfigError, match=r"gate\.default_beams: 4 beams are for network\.family seq2seq"):
        from_dict(Profile, {"gate": {"default_beams": 4}, "network": {"family": "decoder"}})
    with pytest.raises(ConfigError, match="must be at most 8, not 9"):
        from_dict(Profile, {"gate": {"default_beams": 9}})


@pytest.mark.parametrize(("gain", "beams"), [(0.5, 4), (0.1, 1)])
def test_the_verdict_the_summary_and_the_report_tell_the_choice(tmp_path, capsys, gain, beams):
    for variant, search in (("fp32", {"search": None}), ("int8", {})):
        folder = tmp_path / variant
        folder.mkdir()
        found = measured((gain, gain), variant=variant, **search)
        (folder / "evaluation.json").write_text(found.model_dump_json())
    config = GateConfig(max_chrf_loss={}, max_bytes_ratio={})
    paths = {variant: str(tmp_path / variant) for variant in ("fp32", "int8")}
    assert decide(paths, config, "cpu", str(tmp_path), str(tmp_path / "report.html")) == "int8"
    verdict = Verdict.read(tmp_path)
    assert verdict.generation.beams == beams
    line = f"beams by default: {beams} (4 beams gain +{gain:.2f} chrF as a mean of 2"
    assert line in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    table = result_table(summary)
    assert line in table
    (row,) = [line for line in table.splitlines() if line.startswith("heldout, 4 beams  ru-en")]
    assert row.split()[-2:] == [f"{50 + gain}", f"(+{gain})"] and row.split()[5:7] == ["–", "–"]
    assert [line.split()[-2:] for line in table.splitlines() if line.startswith("Texts/s")] == [
        ["–", "10.0"],
        ["–", "3.3"],
    ]
    page = render_report(summary)
    assert "heldout, 4 beams" in page and f"Beams by default: {beams} (" in page and "by a beam search" in page
    assert Summary.model_validate(summary).variants[1].mean_chrf == 50.0, "no mean and no gate counts beams"


def test_a_choice_needs_a_variant_that_may_be_published(tmp_path):
    (tmp_path / "evaluation.json").write_text(measured(variant="fp32").model_dump_json())
    config = GateConfig(max_chrf_loss={}, max_bytes_ratio={}, min_chrf={"heldout/ru-en": 99})
    assert decide({"fp32": str(tmp_path)}, config, "cpu", str(tmp_path), str(tmp_path / "report.html")) == "none"
    assert (Verdict.read(tmp_path).generation.beams, Verdict.read(tmp_path).generation.why) == (1, "")


def test_earlier_results_are_read_and_have_no_beams(tmp_path):
    older = measured().model_dump(exclude={"search"})
    for score in older["scores"]:
        del score["beams"]
    (tmp_path / "evaluation.json").write_text(json.dumps(older))
    read = Evaluation.read(tmp_path)
    assert read.search is None and [score.beams for score in read.scores] == [1, 1]
    assert "beams" not in result_table(Summary(variants=[read]))
