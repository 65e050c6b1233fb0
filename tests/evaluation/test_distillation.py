"""A corpus with a teacher's answers: its rows stay what they were, and the answers are what the engine gives."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from evaluation import distillation
from evaluation.distillation import ENDLESS, KEPT, teach
from evaluation.synthesis import Asked, SynthesisError, Translator, synthesise
from evaluation.teacher import GIVEN, NONE, TRAINED, TeacherError, opened, stamped
from model.bundle import Bundle, BundleError
from model.config import CorpusConfig, DistillationConfig
from model.corpus import CorpusError, read_card, read_split
from model.corpus.answers import answer
from model.onnx.export import export_bundle
from model.settings import from_dict
from model.store.fetching import fetched
from model.training.loop import train
from serving.engine import Engine, GenerationRequest
from tests.helpers.bundles import tiny_bundle, tiny_corpus
from tests.helpers.training import CONFIG, NETWORK, corpus_and_tokenizer, write_corpus

ROOT = Path(__file__).resolve().parents[2]
GREEDY = DistillationConfig()
LANGUAGES = ("ru", "en")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A bundle that has learned to end what it writes, and the corpus and the tokenizer that it was trained on."""
    folder = tmp_path_factory.mktemp("teacher")
    corpus, tokenizer = corpus_and_tokenizer(folder)
    longer = CONFIG.model_copy(update={"steps": 300, "batch_tokens": 1024, "eval_every": 300, "author_dropout": 0.0})
    train(corpus, corpus, tokenizer, folder / "checkpoint", NETWORK, longer)
    export_bundle(folder / "checkpoint", tokenizer, folder / "bundle")
    return Bundle.load(folder / "bundle"), corpus, tokenizer


@pytest.fixture
def small(monkeypatch):
    """Blocks and shards of a few rows."""
    monkeypatch.setattr(distillation, "BLOCK_ROWS", 50)
    monkeypatch.setattr(distillation, "SHARD_ROWS", 200)


@pytest.fixture(scope="module")
def taught(teacher, tmp_path_factory):
    """The whole corpus, taught."""
    out = tmp_path_factory.mktemp("taught") / "corpus"
    return out, teach(teacher[0], teacher[1], out, GREEDY, "the teacher")


def rows_of(corpus):
    return list(read_split(corpus, "train"))


def hashes(card):
    return [shard["sha256"] for shard in card["shards"]]


def test_the_rows_are_the_same_in_number_order_and_text(teacher, taught):
    before, after = rows_of(teacher[1]), rows_of(taught[0])
    own = [{key: row[key] for key in ("ru", "en", "author")} for row in after]
    assert own == before and len(before) == 600
    assert all(row.keys() == {"ru", "en", "author", answer("ru"), answer("en")} for row in after)


@pytest.mark.parametrize(("source", "target"), [LANGUAGES, LANGUAGES[::-1]])
def test_the_answers_are_what_the_engine_gives(teacher, taught, source, target):
    """One request for each row, alone: the rows of this corpus are single sentences."""
    after, learned = rows_of(taught[0])[:40], 0
    with Engine(teacher[0]) as engine:
        for row in after:
            prompt = engine.prompt(row[source], target, row["author"])
            (said,) = engine.generate([GenerationRequest(prompt, engine.limits.translation_tokens(len(prompt)))])
            ended = said.finish_reason == "eos_token" and said.text
            assert row[answer(target)] == (said.text.strip() if ended else row[target])
            learned += bool(ended) and said.text != row[target]
    assert learned, "a teacher that makes no mistake would not tell its answers from the rows' own"


def test_beams_are_asked_for_and_write_otherwise(teacher, taught, tmp_path):
    config = DistillationConfig(beams=4)
    teach(teacher[0], teacher[1], tmp_path / "out", config)
    after = rows_of(tmp_path / "out")
    assert [row[answer("en")] for row in after] != [row[answer("en")] for row in rows_of(taught[0])]
    with Engine(teacher[0]) as engine:
        prompt = engine.prompt(after[0]["ru"], "en", "clerk")
        tokens = engine.limits.translation_tokens(len(prompt))
        (said,) = engine.generate([GenerationRequest(prompt, tokens, beams=4)])
    assert said.finish_reason == "length" or after[0][answer("en")] == said.text.strip()


def test_the_card_tells_of_the_teacher_and_of_every_row(teacher, taught):
    out, card = taught
    bundle = teacher[0]
    assert card == {key: value for key, value in read_card(out).items() if key != "holds"}
    assert read_card(out)["holds"] == ["train"]
    told = card["distillation"]
    assert told["teacher"] == {
        "name": "the teacher",
        "parameters": bundle.provenance["training"]["parameters"],
        "precision": "fp32",
        "sha256": bundle.identity["sha256"],
    }
    assert [entry["direction"] for entry in told["row_counts"]] == ["ru-en", "en-ru"]
    for entry, target in zip(told["row_counts"], ("en", "ru"), strict=True):
        own = sum(row[answer(target)] == row[target] for row in rows_of(out))
        assert entry["rows"] == 600 == entry["used"] + sum(entry["left_out"].values())
        assert entry["left_out"].get(ENDLESS, 0) <= own and KEPT not in entry["left_out"]
    assert sorted(path.name for path in out.iterdir()) == ["corpus.json", "train-00000.jsonl.zst"]


def test_the_share_that_is_kept_is_not_translated(teacher, taught, tmp_path):
    card = teach(teacher[0], teacher[1], tmp_path / "out", DistillationConfig(keep_original=0.5))
    whole, half = rows_of(taught[0]), rows_of(tmp_path / "out")
    for entry, target in zip(card["distillation"]["row_counts"], ("en", "ru"), strict=True):
        assert 240 < entry["left_out"][KEPT] < 360
        taught_words, words, own = ([row[key] for row in rows] for rows, key in (
            (whole, answer(target)), (half, answer(target)), (half, target)))  # fmt: skip
        answers = [*zip(taught_words, words, own, strict=True)]
        assert all(word in (learned, kept) for learned, word, kept in answers)
        assert {word == learned for learned, word, kept in answers if learned != kept} == {True, False}
    nothing = teach(teacher[0], teacher[1], tmp_path / "none", DistillationConfig(keep_original=1.0))
    assert all(row[answer(target)] == row[target] for row in rows_of(tmp_path / "none") for target in LANGUAGES)
    assert [entry["used"] for entry in nothing["distillation"]["row_counts"]] == [0, 0]


def test_nothing_but_the_train_split_is_read(teacher, taught, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(teacher[1], alone, ignore=shutil.ignore_patterns("valid*", "heldout*", "test*"))
    assert hashes(teach(teacher[0], alone, tmp_path / "out", GREEDY)) == hashes(taught[1])


def test_it_goes_on_after_the_last_whole_shard(teacher, tmp_path, small, monkeypatch, capsys):
    bundle, corpus, _ = teacher
    whole = teach(bundle, corpus, tmp_path / "whole", GREEDY)
    assert [shard["rows"] for shard in whole["shards"]] == [200, 200, 200]
    write, out = distillation.write_records, tmp_path / "out"

    def fails(path, records):
        if (out / "train-00000.jsonl.zst").exists():
            raise OSError(28, "No space left on device")
        return write(path, records)

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(distillation, "write_records", fails)
        teach(bundle, corpus, out, GREEDY)
    with pytest.raises(CorpusError, match="not a corpus"):
        read_card(out)
    (out / ".shard.draft").write_text("half a shard")
    first = (out / "train-00000.jsonl.zst").stat().st_mtime_ns
    capsys.readouterr()
    card = teach(bundle, corpus, out, GREEDY)
    assert "distil: going on after 200 of 600 rows, translated before" in capsys.readouterr().out
    assert hashes(card) == hashes(whole) and (out / "train-00000.jsonl.zst").stat().st_mtime_ns == first
    assert card["distillation"]["row_counts"] == whole["distillation"]["row_counts"]
    assert sorted(path.name for path in out.iterdir()) == ["corpus.json", *(s["file"] for s in whole["shards"])]

    # One that has ended is not made twice, and is made anew where something else is asked for.
    assert teach(bundle, corpus, out, GREEDY)["shards"] == card["shards"] and capsys.readouterr().out == ""
    kept = teach(bundle, corpus, out, DistillationConfig(keep_original=1.0))
    assert "going on" not in capsys.readouterr().out and hashes(kept) != hashes(whole)


def test_a_shard_that_was_harmed_is_translated_again(teacher, tmp_path, small, monkeypatch, capsys):
    bundle, corpus, _ = teacher
    out = tmp_path / "out"

    def fails(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(distillation._Lesson, "_judge", fails)  # after the first shard
        teach(bundle, corpus, out, GREEDY)
    (out / "train-00000.jsonl.zst").write_bytes(b"harmed")
    teach(bundle, corpus, out, GREEDY)
    assert "going on" not in capsys.readouterr().out
    assert [row["ru"] for row in rows_of(out)] == [row["ru"] for row in rows_of(corpus)]


def test_a_process_that_is_killed_is_told_in_words(teacher, monkeypatch):
    monkeypatch.setattr("evaluation.synthesis.Translator", Dies)
    with pytest.raises(SynthesisError, match="processes that translate was killed"):
        list(synthesise(teacher[0], [(0, [Asked("один", "en")])], beams=1))


class Dies(Translator):
    """A process that the system kills."""

    def __call__(self, block):
        os.kill(os.getpid(), 9)


def test_blocks_come_back_in_their_order_with_their_labels(teacher):
    texts = ["один", "два", "три", "четыре", "пять", "шесть", "семь"]
    blocks = [(number, [Asked(text, "en"), Asked(text, "en", "nobody")]) for number, text in enumerate(texts)]
    found = list(synthesise(teacher[0], blocks, beams=1))
    assert [label for label, _ in found] == list(range(7))
    with Engine(teacher[0]) as engine:
        alone = [engine.generate([GenerationRequest(engine.prompt(text, "en"))])[0].text.strip() for text in texts]
    assert [one.text for _, (one, _) in found] == alone and all(one == other for _, (one, other) in found)


@pytest.mark.parametrize(
    ("made", "config", "told"),
    [
        ({"family": "decoder"}, GREEDY, "goes on with running text, and a teacher translates"),
        ({"family": "decoder", "task": "translation"}, DistillationConfig(beams=2), "a decoder takes no beams"),
    ],
)
def test_what_cannot_teach_is_refused(made, config, told, tmp_path):
    bundle = Bundle.load(tiny_bundle(tmp_path / "bundle", **made))
    with pytest.raises(TeacherError, match=told):
        teach(bundle, tiny_corpus(tmp_path / "corpus"), tmp_path / "out", config)
    with pytest.raises(TeacherError, match=told):
        stamped({"bundle": str(bundle.path)}, GIVEN, CorpusConfig(), config)
    assert not (tmp_path / "out").exists()


def test_other_languages_and_running_text_are_refused(teacher, tmp_path):
    bundle, corpus, _ = teacher
    with pytest.raises(TeacherError, match="bundle: translates between ru and en, and the text is in de and en"):
        stamped({"bundle": str(bundle.path)}, GIVEN, CorpusConfig(languages=["de", "en"]), GREEDY)
    strange = tmp_path / "strange"
    shutil.copytree(corpus, strange)
    card = json.loads((strange / "corpus.json").read_text("utf-8"))
    (strange / "corpus.json").write_text(json.dumps({**card, "languages": ["de", "en"]}))
    with pytest.raises(TeacherError, match="give a teacher of its languages"):
        teach(bundle, strange, tmp_path / "out", GREEDY)
    with pytest.raises(TeacherError, match="is running text"):
        teach(bundle, write_corpus(tmp_path / "text", "text"), tmp_path / "out", GREEDY)


def test_a_teacher_of_no_use_is_refused_after_its_first_shard(tmp_path, small):
    """Random weights, which end no text."""
    bundle = Bundle.load(tiny_bundle(tmp_path / "bundle"))
    corpus = write_corpus(tmp_path / "corpus")
    with pytest.raises(
        TeacherError, match=r"no translation ru-en of 200 is of use, for none has an end; give a better"
    ):
        teach(bundle, corpus, tmp_path / "out", GREEDY)


def test_a_folder_of_something_else_stays(teacher, tmp_path):
    (tmp_path / "novel.txt").write_text("mine")
    with pytest.raises(CorpusError, match="is there and is not a corpus"):
        teach(teacher[0], teacher[1], tmp_path, GREEDY)
    assert (tmp_path / "novel.txt").read_text() == "mine"


def test_a_teacher_is_named_with_its_hash_and_must_not_change(teacher, tmp_path):
    place, sha256 = str(teacher[0].path), teacher[0].identity["sha256"]
    stamp = stamped({"bundle": place}, GIVEN, CorpusConfig(), GREEDY)
    assert stamp == f"{sha256}@{place}"
    with opened(stamp) as (bundle, name):
        assert bundle.identity["sha256"] == sha256 and name == place
    with opened("", place) as (bundle, name):
        assert bundle.path == teacher[0].path and name == "trained in this run"
    other = tiny_bundle(tmp_path / "other")
    with pytest.raises(TeacherError, match="is another bundle than when the run began"), opened(f"{sha256}@{other}"):
        pass
    with pytest.raises(BundleError), opened(str(tmp_path / "absent")):
        pass


@pytest.mark.parametrize(
    ("teacher", "compiled", "asked"),
    [({}, GIVEN, NONE), ({"bundle": "x"}, NONE, GIVEN), ({"network": {"d_model": 1}}, GIVEN, TRAINED)],
)
def test_a_pipeline_without_the_steps_is_not_run(teacher, compiled, asked):
    with pytest.raises(TeacherError, match=f"the teacher of this run is {asked}, .* compiled for {compiled}: compile"):
        stamped(teacher, compiled, CorpusConfig(), GREEDY)


def test_who_is_trained_in_the_run_needs_no_stamp():
    assert stamped({"network": {"d_model": 1}}, TRAINED, CorpusConfig(), GREEDY) == ""
    assert stamped({}, NONE, CorpusConfig(), GREEDY) == ""


def test_a_published_bundle_is_fetched_whole(teacher):
    store = fsspec.filesystem("memory")
    store.put(f"{teacher[0].path}/", "/models/run/bundle/", recursive=True)
    for place in ("memory://models/run", "memory://models/run/bundle"):
        with fetched(place) as bundle:
            assert bundle.identity == teacher[0].identity and bundle.path != teacher[0].path
    assert not bundle.path.exists()
    manifest = json.loads(store.cat_file("/models/run/bundle/bundle.json"))
    manifest["files"]["../stolen"] = manifest["files"].pop("encoder.onnx")
    store.pipe_file("/models/run/bundle/bundle.json", json.dumps(manifest).encode())
    with pytest.raises(BundleError, match=r"lists '../stolen', which lies outside of the bundle"), fetched(place):
        pass


def test_the_command_makes_what_training_reads(teacher, taught, tmp_path):
    bundle, corpus, tokenizer = teacher
    command = [sys.executable, "-m", "evaluation.distillation", str(bundle.path), str(corpus)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--beams", "1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"600 rows with answers in {tmp_path / 'out'}" in done.stdout
    card = read_card(tmp_path / "out")
    assert hashes(card) == hashes(taught[1])
    few = CONFIG.model_copy(update={"steps": 8})
    info = train(tmp_path / "out", corpus, tokenizer, tmp_path / "trained", NETWORK, few)
    assert info["distillation"]["teacher"]["sha256"] == bundle.identity["sha256"]
    assert info["row_counts"][:2] == card["distillation"]["row_counts"]
    manifest = export_bundle(tmp_path / "trained", tokenizer, tmp_path / "bundle")
    assert manifest["provenance"]["training"]["distillation"] == info["distillation"]
    with pytest.raises(TeacherError, match="running text"):
        teach(bundle, write_corpus(tmp_path / "text", "text"), tmp_path / "none", from_dict(DistillationConfig, {}))
