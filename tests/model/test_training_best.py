"""The best weights by chrF of greedy translations: what the engine says, kept, stopped by and resumed."""

from pathlib import Path

import pytest
import sacrebleu
import torch

from model.bundle import Bundle
from model.config import ConfigError, Profile, TrainingConfig, from_dict, to_dict
from model.network import Transformer
from model.onnx.export import export_bundle
from model.tokenizer import Tokenizer, load_tokenizer
from model.training.batches import Batch, Examples, ExamplesError
from model.training.checkpoint import load_checkpoint
from model.training.loop import Trainer, train
from model.training.translating import LENGTH, chrf, references, translate
from serving.engine import Engine, GenerationRequest
from tests.helpers.training import CONFIG, NETWORK, assert_same, break_off, curve, weights

BY_CHRF = from_dict(
    TrainingConfig, {**to_dict(CONFIG), "steps": 240, "eval_every": 40, "best": "chrf", "chrf_rows": 12}
)

Run = tuple[Path, dict[str, float]]


@pytest.fixture(scope="module")
def trained(parallel: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("trained")
    return out, train(parallel[0], *parallel, out, NETWORK, BY_CHRF)


@pytest.fixture(scope="module")
def rows(parallel: tuple[Path, Path]) -> list[Batch]:
    return _examples(parallel, BY_CHRF).valid_batches(BY_CHRF.chrf_rows)


def _examples(parallel: tuple[Path, Path], config: TrainingConfig) -> Examples:
    return Examples(parallel[0], load_tokenizer(parallel[1]), NETWORK, config)


def _network(folder: Path, tokenizer: Tokenizer) -> Transformer:
    return Transformer.from_weights(NETWORK, tokenizer.vocab_size, load_checkpoint(folder)[0])


def test_the_best_weights_are_those_of_the_best_chrf(trained: Run) -> None:
    folder, info = trained
    points = {point["step"]: point for point in curve(folder) if "valid_chrf" in point}
    assert list(points) == [40, 80, 120, 160, 200, 240]
    best = max(points.values(), key=lambda point: point["valid_chrf"])
    assert (info["best_step"], info["valid_chrf"]) == (best["step"], best["valid_chrf"])
    assert info["valid_loss"] == best["valid_loss"], "the loss that is told is that of the weights that are kept"


def test_translations_are_the_engines(
    parallel: tuple[Path, Path], trained: Run, rows: list[Batch], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(parallel[1])
    export_bundle(trained[0], parallel[1], tmp_path / "bundle")
    network, said, meant = _network(trained[0], tokenizer), [], []
    with Engine(Bundle.load(tmp_path / "bundle")) as engine:
        for batch in rows:
            assert batch.source is not None
            targets = references(batch)
            prompts = [[i for i in row if i != tokenizer.pad_id] for row in batch.source[: len(targets)].tolist()]
            most = min(NETWORK.max_positions, LENGTH * batch.inputs.shape[1])
            ours = translate(network, tokenizer, batch.source[: len(targets)], most)
            theirs = engine.generate([GenerationRequest(prompt, max_tokens=most) for prompt in prompts])
            assert ours == [result.token_ids for result in theirs]
            said += [tokenizer.decode(ids) for ids in ours]
            meant += [tokenizer.decode(ids) for ids in targets]
    assert len(meant) == 12 and all(text.split()[0] for text in meant)
    assert chrf(network, tokenizer, rows) == pytest.approx(sacrebleu.corpus_chrf(said, [meant]).score)


def test_a_translation_that_does_not_end_is_cut(parallel: tuple[Path, Path], rows: list[Batch]) -> None:
    tokenizer, source = load_tokenizer(parallel[1]), rows[0].source
    torch.manual_seed(0)
    network = Transformer(NETWORK, tokenizer.vocab_size).eval()
    assert source is not None
    found = translate(network, tokenizer, source, most=7)
    assert len(found) == len(source) and {len(ids) for ids in found} == {7}


def test_patience_goes_by_it_and_a_resumed_run_chooses_the_same(
    parallel: tuple[Path, Path], trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scores = iter([10.0, 30.0, 20.0, 30.0, 5.0])
    monkeypatch.setattr(Trainer, "_chrf", lambda _: next(scores))  # a real one does not fall when it is told to
    config = BY_CHRF.model_copy(update={"patience": 2})
    info = train(parallel[0], *parallel, tmp_path / "stopped", NETWORK, config)
    assert (info["steps"], info["best_step"], info["valid_chrf"]) == (160, 80, 30.0)
    assert "no improvement in 2 validations" in capsys.readouterr().out
    monkeypatch.undo()
    break_off(parallel, tmp_path / "killed", monkeypatch, 133, config=BY_CHRF)
    train(parallel[0], *parallel, tmp_path / "killed", NETWORK, BY_CHRF)
    assert_same(weights(tmp_path / "killed"), weights(trained[0]))
    assert curve(tmp_path / "killed") == curve(trained[0])


def test_a_decoder_is_refused(parallel: tuple[Path, Path]) -> None:
    decoder = {"family": "decoder", "encoder_layers": 0}
    with pytest.raises(ConfigError, match=r"training\.best: chrf is for network\.family seq2seq"):
        from_dict(Profile, {"network": decoder, "training": {"best": "chrf"}})
    with pytest.raises(ExamplesError, match=r"training\.best"):
        Examples(parallel[0], load_tokenizer(parallel[1]), NETWORK.model_copy(update=decoder), BY_CHRF)
