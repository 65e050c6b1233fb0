"""Every row is counted: used, cut or left out for a reason, in training, calibration and evaluation of either task."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

from evaluation.evaluate import evaluate_bundle
from model.bundle import Bundle
from model.config import EvaluationConfig, NetworkConfig, QuantizationConfig, TokenizerConfig, TrainingConfig
from model.onnx.export import export_bundle
from model.onnx.quantize import quantize_bundle
from model.row_counts import row_count, sentence, too_long, warning
from model.tokenizer import load_tokenizer
from model.tokenizer.subword import LONGEST_LINE_BYTES, train_subwords
from model.tokenizer.train import train_tokenizer
from model.tokenizer.vocabulary import control_tokens
from model.training.batches import Examples
from model.training.loop import train

NETWORK = NetworkConfig(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, head_dim=16, d_ff=64, max_positions=24)
DECODER = NetworkConfig(family="decoder", d_model=32, decoder_layers=1, heads=2, head_dim=16, d_ff=64, max_positions=24)
CONFIG = TrainingConfig(steps=30, batch_tokens=512, warmup_steps=2, threads=1, device="cpu", precision="fp32")
EVALUATION = EvaluationConfig(max_rows=9, loss_rows=10, speed_tokens=2, samples=2, threads=1)
REASON = too_long(24)


def write_corpus(folder: Path, kind: str = "parallel") -> Path:
    """60, 12 and 12 rows; of every three, one side or both are longer than 24 characters."""
    folder.mkdir(parents=True)
    sizes = {"train-00000": 60, "valid": 12, "heldout": 12}
    for name, size in sizes.items():
        rows = []
        for i in range(size):
            ru, en = f"{'кот ' * (1 + i % 3 * 6)}{i}", f"{'cat ' * (1 + i % 3 // 2 * 12)}{i}"
            rows.append({"ru": ru, "en": en} if kind == "parallel" else {"text": en})
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl.zst").write_bytes(zstandard.compress(data.encode()))
    card = {
        "format_version": 1, "kind": kind, "languages": ["ru", "en"] if kind == "parallel" else ["en"], "authors": [],
        "counts": {"read": 84, "kept": 84, "train": 60, "valid": 12, "heldout": 12, "test": {}},
        "shards": [{"file": "train-00000.jsonl.zst", "rows": 60, "sha256": "0" * 64}],
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(card))
    train_tokenizer(folder, folder.with_name("tokenizer"), TokenizerConfig(kind="char", vocab_size=400))
    return folder


@pytest.fixture(scope="module", params=["parallel", "text"])
def made(request, tmp_path_factory):
    """A corpus, and what training on it told of its rows, with the bundle that came out."""
    root = tmp_path_factory.mktemp(request.param)
    corpus = write_corpus(root / "corpus", request.param)
    network = NETWORK if request.param == "parallel" else DECODER
    info = train(corpus, corpus, root / "tokenizer", root / "checkpoint", network, CONFIG)
    export_bundle(root / "checkpoint", root / "tokenizer", root / "bundle")
    return request.param, corpus, info, root / "bundle"


def whole(entry: dict) -> bool:
    return entry["rows"] == entry["used"] + sum(entry["left_out"].values())


def test_training_tells_what_never_trained(made):
    kind, _, info, _ = made
    training, validation = info["row_counts"]
    assert whole(training) and whole(validation)
    if kind == "text":  # cut into windows, every token of which is trained on
        assert training["used"] == 60 and validation["used"] == 12
    else:
        assert (training["used"], training["left_out"]) == (20, {REASON: 40})
        assert (validation["used"], validation["left_out"]) == (4, {REASON: 8})


def test_calibration_tells_what_it_left_out(made, tmp_path):
    kind, corpus, _, bundle = made
    quantize_bundle(bundle, corpus, tmp_path / "int8", "int8", QuantizationConfig(calibration_rows=3))
    (entry,) = Bundle.load(tmp_path / "int8").provenance["quantization"]["row_counts"]
    assert whole(entry) and (entry["rows"], entry["used"]) == (12, 3)
    if kind == "parallel":
        assert entry["left_out"][REASON] == 4
    else:
        assert entry["cut"] == 1 and set(entry["left_out"]) == {"beyond quantization.calibration_rows"}


def test_evaluation_tells_what_was_measured(made, tmp_path, capsys):
    kind, corpus, _, bundle = made
    evaluation = evaluate_bundle(bundle, corpus, tmp_path, EVALUATION)
    counts = evaluation.row_counts
    assert all(map(whole, counts)) and {entry["rows"] for entry in counts} == {12}
    assert sentence(counts) in capsys.readouterr().out
    losses = [entry for entry in counts if entry["step"] == "loss"]
    assert evaluation.loss_rows == sum(entry["used"] for entry in losses)
    if kind == "text":
        assert [entry["used"] for entry in losses] == [10] and evaluation.scores == []
        return
    for entry in losses:
        assert (entry["used"], entry["left_out"]) == (4, {REASON: 6, "beyond evaluation.loss_rows": 2})
    scores = {entry["direction"]: entry for entry in counts if entry["step"] == "scores"}
    for score in evaluation.scores:
        entry = scores[score.direction]
        assert (entry["used"], entry["cut"]) == (score.segments, 0) == (9, 0)  # too long is in pieces, and whole


def test_a_run_that_ends_early_tells_what_it_did_not_reach(made):
    kind, corpus, _, bundle = made
    network = NETWORK if kind == "parallel" else DECODER
    examples = Examples(corpus, load_tokenizer(bundle), network, TrainingConfig(batch_tokens=48))
    stream, seen = examples.train_batches(), set[int]()
    for _ in range(3):
        seen |= set(next(stream).rows)
    (training, _) = examples.row_counts(examples.valid_batches())
    assert whole(training) and training["used"] == len(seen) > 0
    assert training["left_out"]["not reached (training.steps)"] > 0


def test_a_row_that_fits_one_way_only_counts_as_trained_once_it_was(tmp_path):
    """Long on the side that takes the control token: left out by one draw, trained by another."""
    corpus = write_corpus(tmp_path / "corpus")
    rows = [{"ru": "к" * 22, "en": "c" * 23}] * 60  # 23 characters and </s> fit as a target, and not as a source
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (corpus / "train-00000.jsonl.zst").write_bytes(zstandard.compress(data.encode()))
    examples = Examples(corpus, load_tokenizer(tmp_path / "tokenizer"), NETWORK, TrainingConfig(batch_tokens=10**6))
    stream, used = examples.train_batches(), []
    for _ in range(20):
        next(stream)
        (training, _) = examples.row_counts([])
        assert whole(training)
        used.append(training["used"])
    assert 0 < used[0] < 60 == used[-1] and used == sorted(used)


def test_no_validation_row_that_fits_stops_the_run_at_its_beginning(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    network = NETWORK.model_copy(update={"max_positions": 4})
    with pytest.raises(ValueError, match=r"none of the 12 validation rows fits in max_positions=4.*raise"):
        train(corpus, corpus, tmp_path / "tokenizer", tmp_path / "out", network, CONFIG)


def test_the_tokenizer_tells_its_sample(tmp_path, capsys):
    corpus = write_corpus(tmp_path / "corpus")
    report = train_tokenizer(corpus, tmp_path / "t", TokenizerConfig(kind="char", vocab_size=400, sample_lines=30))
    sample, measured = report["row_counts"]
    assert whole(sample) and (sample["rows"], sample["used"]) == (60, 15) and whole(measured)
    assert "tokenizer 15 of 60 train rows (45 beyond tokenizer.sample_lines)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_line_beyond_sentencepieces_limit_is_learnt_from(kind):
    """It drops such a line without a word; letters that stand only there have pieces of their own all the same."""
    words = ["".join(chr(97 + d) for d in np.random.default_rng(i).integers(0, 26, 6)) for i in range(60)]
    long = " ".join(["необычное", *words] * (LONGEST_LINE_BYTES // 300))
    assert len(long.encode()) > LONGEST_LINE_BYTES
    config = TokenizerConfig(kind=kind, vocab_size=700, character_coverage=1.0)
    model = train_subwords([*words, long], config, control_tokens(["ru", "en"], []))
    assert all(letter.encode() in model for letter in "необычное")


def test_the_sentence_adds_up_both_directions_and_warns_once():
    reason = too_long(64)
    counts = [row_count("loss", "heldout", 20, 8, {reason: 12, "x": 0}, d) for d in ("ru-en", "en-ru")]
    counts.append(row_count("speed", "heldout", 20, 20, {}, cut=13))
    line, loud = sentence(counts).split("\n")
    assert line == (
        "rows: loss 16 of 40 heldout rows in both directions (24 too long (network.max_positions 64)); "
        "speed 20 of 20 heldout rows (13 of them cut to fit)"
    )
    assert loud == warning(counts)
    assert loud.startswith(
        "WARNING: more than a quarter of the rows are too long for loss ru-en (12 of 20), loss en-ru (12"
    )
    assert "network.max_positions" in loud and "corpus.max_chars" in loud
    assert warning([row_count("training", "train", 20, 15, {reason: 5})]) == ""
    assert warning([row_count("training", "train", 1000, 8, {reason: 12, "not reached": 980})])
