"""Every shipped profile parses; what is wrong with a profile or a request is told together, before anything runs."""

import json
import re

import jsonschema
import pytest
import yaml

from model.config import PRESETS, ConfigError, NetworkConfig, Profile, from_dict, to_dict
from pipelines.request import (
    PROFILES,
    load_profile,
    own_text_problems,
    profile_names,
    read_request,
    source_problems,
)


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_parse(name):
    profile = load_profile(name)
    assert profile.name == name
    assert from_dict(Profile, to_dict(profile)) == profile


def test_the_promised_profiles_are_there():
    assert {"demo", "small", "full", "tiny", "gpt"} <= set(profile_names())
    assert load_profile("small").network == from_dict(NetworkConfig, PRESETS["prometheus-8m"])


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_survives_what_kubeflow_does_to_numbers(name):
    """Inside a dict parameter every number arrives as a float."""

    def floats(value):
        if isinstance(value, dict):
            return {k: floats(v) for k, v in value.items()}
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    profile = load_profile(name)
    again = from_dict(Profile, floats(to_dict(profile)))
    assert again == profile
    assert isinstance(again.training.steps, int)


def test_all_problems_of_a_profile_are_told_together(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {stepz: 5, precision: int4}\nnetwork: {heads: many}\nextra: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path), ["nonsense"])
    message = str(caught.value)
    for part in (
        "mine.training.stepz: unknown setting; known:",
        "mine.training.precision: 'int4' is not one of",
        "mine.network.heads: expected int, found 'many'",
        "mine.extra: unknown setting",
        "'nonsense': expected section.key=value",
    ):
        assert part in message
    assert "steps" in message


def test_overrides_reach_nested_settings():
    profile = load_profile("tiny", ["training.steps=7", "gate.min_chrf={heldout/ru-en: 99}", "network.d_ff=96"])
    assert (profile.training.steps, profile.network.d_ff) == (7, 96)
    assert profile.gate.min_chrf == {"heldout/ru-en": 99.0}
    assert profile.network.d_model == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected sections such as 'training:'"),
        ("a: [", "not YAML"),
        ("training: 5\n", "expected a mapping"),
    ],
)
def test_files_that_are_no_profile(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_profile(str(path))


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"no profile 'huge'; shipped: demo, full, gpt, small, tiny; or give the path"
    ):
        load_profile("huge")


def test_an_empty_file_is_all_defaults(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text("# nothing\n")
    assert load_profile(str(path)) == Profile(name="plain")


def test_text_for_a_seq2seq_network_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a seq2seq network needs corpus\.kind parallel"):
        load_profile("tiny", ["corpus.kind=text"])


def test_missing_and_empty_files_are_told_together(tmp_path):
    (tmp_path / "empty.tsv").touch()
    lines = source_problems(
        Profile(),
        [str(tmp_path / "absent.tsv"), "s3://bucket/pairs.tsv"],
        [str(tmp_path / "empty.tsv"), str(tmp_path)],
    )
    absent, empty, folder = lines
    assert absent.startswith("CORPUS: ") and "absent.tsv: no such file; check the path" in absent
    assert empty.startswith("TEST: ") and "empty.tsv: the file is empty" in empty
    assert folder.startswith("TEST: ") and "empty.tsv: the file is empty" in folder


def test_folders_and_types_are_looked_at_before_anything_starts(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train.tsv", "test.tsv"):
        (tmp_path / "data" / name).write_text("да\tyes\n")
    assert source_problems(Profile(), [str(tmp_path / "data")], [str(tmp_path / "data")]) == []
    (tmp_path / "book.docx").write_bytes(b"PK")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "test.tsv").write_text("да\tyes\n")
    first, second = source_problems(Profile(), [str(tmp_path / "book.docx"), str(tmp_path / "only")], [])
    assert first.startswith("CORPUS: ") and first.endswith("save its text as plain text in UTF-8 and name it .txt")
    assert "no file to train on, by their names" in second


def test_test_sets_need_names_of_their_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "docs.tsv").write_text("да\tyes\n")
    (problem,) = source_problems(load_profile("tiny"), [], [str(tmp_path / "a/docs.tsv"), str(tmp_path / "b/docs.tsv")])
    assert problem == "TEST: more than one file is named 'docs'; test sets need their own"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", "profile gpt has no text of its own: give CORPUS=file.txt, or set corpus.sources"),
        ("small", "profile small has no text of its own: give CORPUS=pairs.tsv, or set corpus.sources"),
    ],
)
def test_a_profile_without_text_of_its_own_needs_a_corpus(name, message):
    assert list(own_text_problems(load_profile(name))) == [message]
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_request(name, [], [], [])
    assert read_request(name, [], ["s3://anything.tsv"], []).corpus == ["s3://anything.tsv"]


def test_a_profile_that_cannot_be_read_is_not_blamed_for_its_text():
    with pytest.raises(ConfigError, match=r"^Nothing was run:\ntiny.training.stepz: .*$"):
        read_request("tiny", ["training.stepz=1"], [], [])


def test_a_profile_finds_its_text_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("corpus: {sources: [mine.tsv, https://host/more.tsv]}\n")
    profile = load_profile(str(path))
    assert profile.corpus.sources == [str(tmp_path / "mine.tsv"), "https://host/more.tsv"]
    (problem,) = own_text_problems(profile)
    assert re.search(r"the text of profile mine is not parallel.*mine\.tsv: no such file", problem)
    (tmp_path / "mine.tsv").write_text("да\tyes\n")
    assert list(own_text_problems(profile)) == []
    monkeypatch.chdir(tmp_path)
    assert load_profile("mine.yaml").corpus.sources[0] == "mine.tsv", "a path from here, where it is short"
    assert load_profile("mine.yaml", ["corpus.sources=[a/b.tsv]"]).corpus.sources == ["a/b.tsv"]


@pytest.mark.parametrize("name", ["demo", "tiny"])
def test_the_text_of_a_profile_is_in_its_languages(name):
    assert list(own_text_problems(load_profile(name))) == []
    assert list(own_text_problems(load_profile(name, ["corpus.languages=[en, ru]"]))) == []
    (problem,) = own_text_problems(load_profile(name, ["corpus.languages=[de, en]"]))
    assert f"text of profile {name} is not parallel in [de, en]: give CORPUS=pairs" in problem
    (problem,) = own_text_problems(load_profile(name, ["corpus.kind=text", "network.family=decoder"]))
    assert "is not text in" in problem


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        ("tiny", ["corpus.heldout_rows=0"], r"corpus.heldout_rows: must be at least 1, not 0: without held-out rows"),
        ("gpt", ["corpus.valid_rows=0"], r"corpus.valid_rows: must be at least 1, not 0"),
        ("tiny", ["tokenizer.vocab_size=262"], r"vocab_size: 262 leaves no room for text beside .* 6 control tokens"),
        ("tiny", ["training.patience=2"], r"patience: 2 validations, one every 60 steps, are not over before step 120"),
        ("tiny", ["corpus.kind=text"], r"tiny.network.family: a seq2seq network needs corpus.kind parallel"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(profile, settings, message):
    with pytest.raises(ConfigError, match=message):
        load_profile(profile, settings)


def test_all_contradictions_are_told_together():
    with pytest.raises(ConfigError) as caught:
        load_profile("tiny", ["corpus.heldout_rows=0", "corpus.valid_rows=0", "tokenizer.vocab_size=260"])
    assert len(str(caught.value).splitlines()) == 3


def test_a_trial_that_would_end_while_it_warms_up_is_fitted_and_told():
    request = read_request("tiny", ["training.steps=3"], [], [])
    (note,) = request.notes
    assert note.startswith("training.warmup_steps is 0 instead of 5, for training.steps is 3: the learning rate would")
    assert (request.profile.training.warmup_steps, request.profile.training.steps) == (0, 3)
    assert read_request("tiny", [], [], []).notes == []


def test_every_problem_of_a_request_is_told_together():
    with pytest.raises(ConfigError) as caught:
        read_request("tiny", ["training.stepz=1"], ["absent.tsv"], ["gone.tsv"])
    assert re.fullmatch(
        r"Nothing was run:\ntiny.training.stepz: unknown .*\nCORPUS: absent.tsv: no such.*\nTEST: gone.tsv: no such.*",
        str(caught.value),
    )


def test_every_profile_says_what_it_is_for_and_where_an_editor_finds_its_schema():
    for path in PROFILES.glob("*.yaml"):
        comment = path.read_text(encoding="utf-8").partition("name:")[0]
        assert comment.startswith("# ") and comment.endswith("\n# yaml-language-server: $schema=profile.schema.json\n")


def test_the_schema_is_that_of_the_settings_and_takes_the_shipped_profiles():
    text = (PROFILES / "profile.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    assert schema == Profile.model_json_schema(), "write it anew: python -m model.config --schema"
    for name in profile_names():
        jsonschema.validate(yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8")), schema)
    for wrong in ({"training": {"steps": 0}}, {"trainig": {}}, {"gate": {"max_chrf_loss": {"int9": 0.1}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_node_is_named_by_text_and_shares_by_kubernetes_quantities():
    given = {"resources": {"node_selector": {"pool": "1"}, "memory": "512Mi", "train_cpu": "1.5", "gpus": 1.0}}
    resources = from_dict(Profile, given).resources
    assert resources.node_selector == {"pool": "1"} and resources.gpus == 1
    with pytest.raises(ConfigError, match=r"memory: '2 GB' is not of the form .*held to, but for training"):
        from_dict(Profile, {"resources": {"memory": "2 GB"}})
