"""What becomes of the process that measures a bundle is told in words; a verdict of none fails with its reasons."""

import os
import signal

import pytest

from evaluation import variant
from evaluation.gate import RefusedError, refuse
from evaluation.gathered import gather
from evaluation.results import Evaluation, GateResult, Verdict
from evaluation.variant import VariantError, measure_bundle
from model.config import EvaluationConfig
from model.corpus import CorpusError
from model.files import write_json


def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(bundle, *_):
    raise CorpusError(f"{bundle}: of another corpus")


def tells(bundle, holdout, out, config):
    return Evaluation(variant="int8", provider=f"process {os.getpid()}", loss=config.loss_rows / 2)


def test_a_bundle_is_measured_in_a_process_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(variant, "evaluate_bundle", tells)
    figures = measure_bundle("bundle", "holdout", "out", EvaluationConfig(loss_rows=3))
    assert figures["loss"] == 1.5 and figures["provider"] != f"process {os.getpid()}"
    assert "evaluate: int8 on process " in capsys.readouterr().out


def test_one_that_is_killed_is_told_in_words(monkeypatch):
    monkeypatch.setattr(variant, "evaluate_bundle", dies)
    with pytest.raises(VariantError, match="bundle: the process that measured it ended without a word: killed"):
        measure_bundle("bundle", "holdout", "out", EvaluationConfig())


def test_what_it_refuses_keeps_its_words(monkeypatch):
    monkeypatch.setattr(variant, "evaluate_bundle", refuses)
    with pytest.raises(CorpusError, match=r"^bundle: of another corpus$"):
        measure_bundle("bundle", "holdout", "out", EvaluationConfig())


def test_a_refusal_names_every_variants_gates_and_raises(tmp_path, capsys):
    gates = [
        GateResult(name="min_chrf heldout/ru-en", variant=name, threshold=99, value=40 + i, passed=i == 3)
        for i, name in enumerate(("fp32", "fp16", "int8", "other"))
    ]
    write_json(tmp_path / "verdict.json", Verdict(gates=gates).model_dump())
    with pytest.raises(RefusedError, match=r"^nothing is published: no variant passed its gates; failed: min_chrf hel"):
        refuse(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"gate min_chrf heldout/ru-en of {name}: {40 + i}.00, must be ≥ 99"
        for i, name in enumerate(("fp32", "fp16", "int8"))
    ]


def test_what_a_run_did_not_reach_is_empty(tmp_path):
    assert gather() == {
        **{name: {} for name in ("corpus", "tokenizer", "training", "generation")},
        **{name: [] for name in ("row_counts", "curves", "variants", "gates")},
        "chosen": "",
    }
    assert gather(checkpoint=str(tmp_path))["training"] == {}
