"""Evaluation through the real engine on miniature bundles: scores are sacreBLEU's own, files and figures are whole."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from evaluation.evaluate import EvaluationError, evaluate_bundle
from evaluation.gate import choose, failed, gate
from evaluation.loss import unigram_entropy
from evaluation.quality import corpus_scores, spread
from evaluation.report.page import render_report
from evaluation.results import Evaluation, printable
from evaluation.table import result_table
from model.bundle import Bundle
from model.config import CorpusConfig, EvaluationConfig, GateConfig, QuantizationConfig
from model.corpus import prepare_corpus, read_split
from model.onnx.quantize import quantize_bundle
from model.sessions import hardware
from model.text.pieces import join
from model.tokenizer import load_tokenizer
from serving.engine import Engine, GenerationRequest
from tests.helpers.engines import talkative_bundle

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CHISLA = ["один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять"]
LOOSE = GateConfig(max_chrf_loss={}, max_bytes_ratio={})
CONFIG = EvaluationConfig(max_rows=12, loss_rows=6, speed_tokens=8, samples=4, threads=1)


def pairs(first: int) -> list[tuple[str, str]]:
    return [
        (f"{CHISLA[i]} и {CHISLA[j]} тут", f"{NUMBERS[i]} and {NUMBERS[j]} here")
        for i in range(first, 10)
        for j in range(10)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.tsv").write_text("".join(f"{ru}\t{en}\n" for ru, en in pairs(0)), encoding="utf-8")
    long = "слово " * 40
    tests = [("привет мир", "hello world"), (long.strip(), ("word " * 40).strip()), ("нет", "no")]
    (folder / "test_tiny.tsv").write_text("".join(f"{ru}\t{en}\n" for ru, en in tests), encoding="utf-8")
    out = folder / "corpus"
    config = CorpusConfig(valid_rows=5, heldout_rows=20, leaks="exact", duplicates="exact")
    prepare_corpus([str(folder / "train.tsv")], [str(folder / "test_tiny.tsv")], out, config)
    return out


@pytest.fixture(scope="module")
def measured(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    bundle = talkative_bundle(folder / "bundle", family="seq2seq")
    return bundle, folder / "out", evaluate_bundle(bundle, corpus, folder / "out", CONFIG)


def test_corpus_scores_are_sacrebleus():
    hypotheses = ["The cat sat on the mat.", "Он пошёл домой", ""]
    references = ["A cat sat on the mat.", "Он ушёл домой", "nothing"]
    scores = corpus_scores(hypotheses, references)
    bleu, chrf = sacrebleu.corpus_bleu(hypotheses, [references]), sacrebleu.corpus_chrf(hypotheses, [references])
    assert (scores["bleu"], scores["chrf"]) == (bleu.score, chrf.score)
    assert f"version:{sacrebleu.__version__}" in scores["bleu_signature"] and "tok:13a" in scores["bleu_signature"]
    assert "nc:6|nw:0" in scores["chrf_signature"]


def test_scores_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        corpus_scores([], [])
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        corpus_scores(["a"], ["a", "b"])


def test_spread_reaches_from_good_to_bad():
    scores = [float(i % 10) for i in range(100)]
    chosen = [scores[i] for i in spread(scores, 10)]
    assert chosen == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert spread([1.0, 2.0], 5) == [1, 0] and spread([], 5) == [] and spread([1.0], 0) == []


def test_every_set_is_translated_both_ways(measured, corpus):
    _, out, evaluation = measured
    places = [(score.test_set, score.direction, score.segments) for score in evaluation.scores]
    assert places == [(s, d, n) for s, n in (("heldout", 12), ("test_tiny", 3)) for d in ("ru-en", "en-ru")]
    for score in evaluation.scores:
        text = (out / "hypotheses" / f"{score.test_set}.{score.direction}.txt").read_text(encoding="utf-8")
        hypotheses = text.split("\n")[:-1]
        split = score.test_set if score.test_set == "heldout" else f"test/{score.test_set}"
        references = [record[score.direction[3:]] for record in read_split(corpus, split)][: score.segments]
        assert score.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
        assert score.bleu == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
        assert evaluation.score(score.test_set, score.direction) is score
    assert evaluation.score("heldout", "en-de") is None


def test_rows_are_translated_as_they_are_served_in_pieces_where_they_are_long(measured, corpus):
    bundle, out, _ = measured
    (row,) = [row for row in read_split(corpus, "test/test_tiny") if len(row["ru"]) > 100]
    with Engine(Bundle.load(bundle)) as engine:
        pieces = list(engine.pieces(row["ru"], "en"))
        prompts = [piece.prompt for piece in pieces if piece.prompt]
        requests = [GenerationRequest(ids, engine.limits.translation_tokens(len(ids))) for ids in prompts]
        expected = join(pieces, [result.text for result in engine.generate(requests)])
    lines = (out / "hypotheses" / "test_tiny.ru-en.txt").read_text(encoding="utf-8").split("\n")
    assert len(prompts) > 3 and re.sub(r"[\r\n]+", " ", expected).strip() in lines


def test_the_same_rows_are_scored_dirty_and_in_pairs(measured):
    """Beside what they come to as they are: the dirt is cleaned away or costs little, and each of two is translated."""
    evaluation = measured[2]
    places = [(score.test_set, score.direction, score.segments) for score in evaluation.variations]
    assert places == [
        (f"{name}, {kind}", direction, n)
        for name, rows in (("heldout", 12), ("test_tiny", 3))
        for direction in ("ru-en", "en-ru")
        for kind, n in (("dirty", rows), ("in pairs", rows // 2))
    ]
    for score in evaluation.variations:
        if "in pairs" in score.test_set:
            assert score.chrf == pytest.approx(score.plain_chrf)
        assert evaluation.score(score.test_set, score.direction) is score
    assert evaluation.mean_chrf == sum(score.chrf for score in evaluation.scores) / 4


def test_loss_is_the_engines_in_nats_per_token(measured, corpus):
    bundle, _, evaluation = measured
    with Engine(Bundle.load(bundle)) as engine:
        nats = tokens = 0.0
        for record in list(read_split(corpus, "heldout"))[: CONFIG.loss_rows]:
            for source, target in (("ru", "en"), ("en", "ru")):
                ids = [*engine.tokenizer.encode(record[target]), engine.tokenizer.eos_id]
                nats += engine.score([engine.prompt(record[source], target=target)], [ids])[0]
                tokens += len(ids)
    assert evaluation.loss == pytest.approx(nats / tokens, rel=1e-4)
    assert evaluation.loss_tokens == tokens and evaluation.loss_rows == 2 * CONFIG.loss_rows
    assert evaluation.perplexity == pytest.approx(math.exp(evaluation.loss))
    assert set(evaluation.losses) == {"ru-en", "en-ru"}


def test_what_a_model_must_beat_is_measured_on_the_same_rows(measured, corpus):
    """The untranslated source's chrF by sacreBLEU; the entropy of the tokens that the loss counts, end tokens too."""
    bundle, _, evaluation = measured
    for score in evaluation.scores:
        split = score.test_set if score.test_set == "heldout" else f"test/{score.test_set}"
        records = list(read_split(corpus, split))[: score.segments]
        source, target = score.direction.split("-")
        copied = sacrebleu.corpus_chrf([r[source] for r in records], [[r[target] for r in records]])
        assert score.copying_chrf == copied.score
    tokenizer = load_tokenizer(bundle)
    records = list(read_split(corpus, "heldout"))[: CONFIG.loss_rows]
    for target, direction in (("en", "ru-en"), ("ru", "en-ru")):
        tokens = [i for r in records for i in [*tokenizer.encode(r[target]), tokenizer.eos_id]]
        shares = np.unique(tokens, return_counts=True)[1] / len(tokens)
        assert evaluation.unigram_entropies[direction] == pytest.approx(-(shares * np.log(shares)).sum())


def test_unigram_entropy():
    assert unigram_entropy([7] * 5) == 0.0
    assert unigram_entropy(range(8)) == pytest.approx(math.log(8))
    assert math.isnan(unigram_entropy([]))


def test_figures_and_file_are_whole(measured):
    bundle, out, evaluation = measured
    assert Evaluation.read(out) == evaluation == Evaluation.model_validate_json(evaluation.model_dump_json())
    assert not list(out.rglob("*.part"))
    assert evaluation.variant == "fp32" and evaluation.task == "translation"
    assert evaluation.bytes == sum(path.stat().st_size for path in bundle.iterdir())
    assert set(evaluation.tokens_per_second) == {"1", "32"} and min(evaluation.tokens_per_second.values()) > 0
    assert 10 < evaluation.peak_memory_mb < 20000
    assert evaluation.threads == 1 and evaluation.provider
    assert evaluation.hardware == hardware() and evaluation.hardware["instructions"]


def test_samples_are_ranked_by_chrf(measured):
    samples = [s for s in measured[2].samples if (s.test_set, s.direction) == ("heldout", "ru-en")]
    assert len(samples) == CONFIG.samples
    scores = [sample.chrf for sample in samples]
    assert scores == sorted(scores, reverse=True)
    for sample in samples:
        assert sample.chrf == sacrebleu.sentence_chrf(sample.output, [sample.reference]).score


def test_the_same_evaluation_twice_gives_the_same_scores(measured, corpus, tmp_path):
    again = evaluate_bundle(measured[0], corpus, tmp_path, CONFIG)
    assert [score.chrf for score in again.scores] == [score.chrf for score in measured[2].scores]
    assert again.loss == measured[2].loss


def test_a_decoder_translates_too(corpus, tmp_path):
    bundle = talkative_bundle(tmp_path / "bundle", family="decoder", task="translation", max_positions=96)
    evaluation = evaluate_bundle(bundle, corpus, tmp_path / "out", CONFIG)
    assert len(evaluation.scores) == 4 and math.isfinite(evaluation.loss)
    refused = {result.name for result in failed(gate({"fp32": evaluation}, LOOSE))}
    assert refused >= {"unigram ru-en", "unigram en-ru"}


def test_running_text_is_judged_by_its_loss(tmp_path):
    source = tmp_path / "text.txt"
    source.write_text("".join(f"{ru}. {en} and so on, again and again.\n\n" for ru, en in pairs(0)), encoding="utf-8")
    corpus = tmp_path / "corpus"
    prepare_corpus(
        [str(source)],
        [],
        corpus,
        CorpusConfig(kind="text", valid_rows=5, heldout_rows=5, max_chars=200, min_script_ratio=0.0),
    )
    bundle = talkative_bundle(tmp_path / "bundle", family="decoder", task="text")
    evaluation = evaluate_bundle(bundle, corpus, tmp_path / "out", CONFIG)
    assert evaluation.scores == [] and evaluation.task == "text"
    # Random weights: no test of a floor's number is needed to see that this is garbage.
    assert [result.name for result in failed(gate({"fp32": evaluation}, LOOSE))] == ["unigram text"]
    heldout = list(read_split(corpus, "heldout"))[: CONFIG.loss_rows]
    with Engine(Bundle.load(bundle)) as engine:
        # Every token and the end token are counted once, however the windows fall.
        assert evaluation.loss_tokens == sum(len(engine.tokenizer.encode(row["text"])) + 1 for row in heldout)
    bits = evaluation.loss * evaluation.loss_tokens / math.log(2) / sum(len(row["text"]) for row in heldout)
    assert evaluation.bits_per_character == pytest.approx(bits, rel=0.02)
    assert evaluation.samples and all(sample.chrf is None and sample.output for sample in evaluation.samples)


def test_from_real_variants_to_gates_choice_and_report(measured, corpus, tmp_path):
    evaluations = {"fp32": measured[2]}
    assert measured[2].variant == "fp32"
    for precision in ("fp16", "int8"):
        quantize_bundle(measured[0], corpus, tmp_path / precision, precision, QuantizationConfig(calibration_rows=4))
        evaluations[precision] = evaluate_bundle(tmp_path / precision, corpus, tmp_path / "out", CONFIG)
    assert evaluations["int8"].bytes < evaluations["fp16"].bytes < evaluations["fp32"].bytes
    generous = GateConfig(max_chrf_loss={"fp16": 1.0, "int8": 1.0}, max_bytes_ratio={"int8": 1.0})
    gates = gate(evaluations, generous)
    asked, always = gates[:3], gates[3:]
    assert [result.passed for result in asked] == [True, True, True]
    assert (choose(evaluations, asked, "cpu"), choose(evaluations, asked, "gpu")) == ("int8", "fp16")
    # The weights are random: the floors that always hold let none of the three go.
    assert {result.variant for result in failed(always)} == set(evaluations)
    assert choose(evaluations, gates, "cpu") is None
    published = {"variant": "int8", "path": "somewhere"}
    summary = {"status": "ok", "variants": list(evaluations.values()), "gates": asked, "published": published}
    assert "Published: int8" in render_report(summary)
    samples, verdict = result_table(summary).split("\n\n")[-2:]
    assert verdict.endswith("OK")
    for direction, line in zip(("ru-en", "en-ru"), samples.splitlines(), strict=True):
        written = [each for each in evaluations["int8"].samples if each.direction == direction]
        shown = [f"{direction}: {each.source} → {' '.join(printable(each.output).split())}" for each in written]
        assert any(whole.startswith(line.removesuffix("…")) for whole in shown)
    impossible = gate(evaluations, GateConfig(max_chrf_loss={}, max_bytes_ratio={}, min_chrf={"heldout/ru-en": 99.9}))
    assert len([result for result in failed(impossible) if result.name.startswith("min_chrf")]) == 3
    assert choose(evaluations, impossible, "cpu") is None


def test_a_corpus_of_another_kind_is_refused(corpus, tmp_path):
    bundle = talkative_bundle(tmp_path / "bundle", family="decoder", task="text")
    with pytest.raises(EvaluationError, match=r"holds parallel text, and the bundle .* does text"):
        evaluate_bundle(bundle, corpus, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_command_line(measured, corpus, tmp_path):
    command = [
        sys.executable,
        "-m",
        "evaluation",
        measured[0],
        corpus,
        "--out",
        tmp_path,
        "--max_rows",
        "2",
        "--loss_rows",
        "2",
    ]
    done = subprocess.run(
        list(map(str, [*command, "--speed_tokens", "4"])), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fp32 BLEU" in done.stdout and "Tokens/s, 32 requests" in done.stdout
    missing = subprocess.run(
        [sys.executable, "-m", "evaluation", str(tmp_path / "none"), str(corpus), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2 and "no such directory" in missing.stderr


def test_beams_are_scored_beside_greedy(measured, corpus, tmp_path):
    """The same rows by the engine's own beam search, each score with greedy's beside it; greedy's figures stay."""
    config = CONFIG.model_copy(update={"beams": 4, "beam_variants": ["fp32"]})
    bundle, _, greedy = measured
    evaluation = evaluate_bundle(bundle, corpus, tmp_path, config)
    assert greedy.search is None and [s.beams for s in evaluation.scores] == [1] * 4
    assert [(s.chrf, s.bleu) for s in evaluation.scores] == [(s.chrf, s.bleu) for s in greedy.scores]
    search = evaluation.search
    found = {(s.test_set, s.direction, s.segments, s.beams) for s in search.scores}
    expected = {(f"{s.test_set}, 4 beams", s.direction, s.segments, 4) for s in evaluation.scores}
    assert found == expected and search.beams == 4
    together = []
    for plain, score in zip(evaluation.scores, search.scores, strict=True):
        source, target = score.direction.split("-")
        split = plain.test_set if plain.test_set == "heldout" else f"test/{plain.test_set}"
        rows = list(read_split(corpus, split))[: score.segments]
        both = [
            (tmp_path / "hypotheses" / f"{plain.test_set}.{score.direction}{ending}")
            .read_text("utf-8")
            .split("\n")[:-1]
            for ending in (".txt", ".4-beams.txt")
        ]
        references = [row[target] for row in rows]
        together += zip(references, *both, strict=True)
        assert score.chrf == sacrebleu.corpus_chrf(both[1], [references]).score
        assert score.plain_chrf == plain.chrf and score.seconds > 0
        if plain.test_set == "heldout":
            assert both[0] != both[1]
            with Engine(Bundle.load(bundle)) as engine:
                ids = [engine.prompt(row[source], target=target) for row in rows]
                requests = [GenerationRequest(one, engine.limits.translation_tokens(len(one)), beams=4) for one in ids]
                assert both[1] == [re.sub(r"[\r\n]+", " ", one.text).strip() for one in engine.generate(requests)]
    references, greedily, searched = zip(*together, strict=True)
    assert search.chrf == pytest.approx(sacrebleu.corpus_chrf(list(searched), [list(references)]).score)
    assert search.plain_chrf == pytest.approx(sacrebleu.corpus_chrf(list(greedily), [list(references)]).score)
    gains = [score.chrf - score.plain_chrf for score in search.scores]
    assert search.gain == pytest.approx(sum(gains) / 4) and 0 < search.p <= 1
    assert Evaluation.read(tmp_path) == evaluation
    assert [score.plain_chrf for score in evaluation.variations] == [score.plain_chrf for score in greedy.variations]
    assert evaluation.score("heldout, 4 beams", "ru-en") is search.scores[0]


def test_beams_are_measured_where_they_are_asked_for_and_can_be(corpus, tmp_path, capsys):
    config = CONFIG.model_copy(update={"max_rows": 2, "varied_rows": 0, "beam_variants": ["fp32"]})
    bundle = talkative_bundle(tmp_path / "seq2seq", family="seq2seq")
    for beams in (0, 1):
        none = evaluate_bundle(bundle, corpus, tmp_path / "out", config.model_copy(update={"beams": beams}))
        assert none.search is None
    other = config.model_copy(update={"beam_variants": ["int8"]})
    assert evaluate_bundle(bundle, corpus, tmp_path / "out", other).search is None
    assert "beams: not measured" not in capsys.readouterr().out
    decoder = talkative_bundle(tmp_path / "decoder", family="decoder", task="translation", max_positions=96)
    assert evaluate_bundle(decoder, corpus, tmp_path / "out", config).search is None
    assert "beams: not measured, as this bundle takes 1 at most here" in capsys.readouterr().out
