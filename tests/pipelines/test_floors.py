"""A profile's floors hold for its own languages; what is asked of a run is measured, or refused at once."""

import pytest

from model.config import ConfigError
from pipelines.request import load_profile, profile_names, read_request

GERMAN = "corpus.languages=[de, en]"


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("Ja.\tYes.\n", encoding="utf-8")
    return str(path)


def floors(profile, settings, corpus, tests=()):
    request = read_request(profile, settings, corpus, list(tests))
    return request.profile.gate.min_chrf, request.notes


@pytest.mark.parametrize("profile", ["demo", "small", "tiny"])
def test_other_languages_need_no_further_setting(pairs, profile):
    kept, notes = floors(profile, [GERMAN], [pairs])
    own = load_profile(profile).gate.min_chrf
    assert kept == {} and len(notes) == len(own)
    for place, note in zip(own, notes, strict=True):
        assert note == f"floor {place} of profile {profile} is left out: this run is in de, en"


def test_a_profiles_floors_hold_for_its_languages_in_either_order(pairs):
    for languages in ("[ru, en]", "[en, ru]"):
        assert floors("small", [f"corpus.languages={languages}"], [pairs]) == (load_profile("small").gate.min_chrf, [])


def test_a_floor_measured_on_a_profiles_own_text_is_for_that_text_alone(pairs):
    own = load_profile("demo").gate.min_chrf
    assert own and floors("demo", [], []) == (own, [])
    kept, notes = floors("demo", [], [pairs])
    assert kept == {} and [note.partition(":")[2] for note in notes] == [" it is for the profile's own text"] * len(own)
    asked = "gate.min_chrf={heldout/ru-en: 40}"
    assert floors("demo", [asked], [pairs]) == ({"heldout/ru-en": 40.0}, [])


def test_floors_of_ones_own_hold(pairs):
    asked = "gate.min_chrf={heldout/de-en: 40}"
    assert floors("small", [GERMAN, asked], [pairs]) == ({"heldout/de-en": 40.0}, [])
    assert floors("small", [GERMAN, "gate.min_chrf={}"], [pairs]) == ({}, [])


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        (
            "tiny",
            ["gate.min_chrf={heldout/ru-de: 1}"],
            r"heldout/ru-de cannot be measured.*\[ru, en\].*ru-en and en-ru",
        ),
        ("tiny", [GERMAN, "gate.min_chrf={heldout/ru-en: 1}"], r"heldout/ru-en cannot be measured.*\[de, en\]"),
        ("tiny", ["gate.min_chrf={heldout: 1}"], r"'heldout' is not 'test set/direction', as in 'heldout/ru-en'"),
        ("tiny", ["gate.min_chrf={test_dcos/ru-en: 50}"], r"test_dcos/ru-en cannot.*are heldout, pairs; give the file"),
        ("gpt", ["gate.min_chrf={heldout/ru-en: 40}"], r"no translation to score.*SET=gate.max_loss=2.2"),
    ],
)
def test_a_floor_asked_of_a_run_that_cannot_measure_it_is_refused(pairs, profile, settings, message):
    with pytest.raises(ConfigError, match=message):
        read_request(profile, settings, [pairs], [pairs])


def test_a_profile_that_contradicts_itself_is_refused(tmp_path, pairs):
    path = tmp_path / "mine.yaml"
    path.write_text("corpus: {languages: [de, en]}\ngate: {min_chrf: {heldout/ru-en: 40}}\n")
    with pytest.raises(ConfigError, match=r"heldout/ru-en cannot be measured, for corpus.languages is"):
        read_request(str(path), [], [pairs], [])


def test_a_folder_may_bring_the_test_set_that_a_floor_names(tmp_path, pairs):
    asked = ["gate.min_chrf={test_docs/ru-en: 50}"]
    (tmp_path / "test_docs.tsv").write_text("Да.\tYes.\n", encoding="utf-8")
    assert floors("tiny", asked, [pairs], [str(tmp_path / "test_docs.tsv")])[0] == {"test_docs/ru-en": 50.0}
    assert floors("tiny", asked, ["s3://bucket/folder"])[0] == {"test_docs/ru-en": 50.0}


def test_a_profiles_own_floor_on_a_test_set_that_is_not_given_is_left_to_the_gate_which_says_so(pairs):
    assert "test_docs/ru-en" in floors("small", [], [pairs])[0]


def test_every_profile_can_be_asked_to_do_without_floors():
    for name in profile_names():
        assert load_profile(name, ["gate.min_chrf={}"]).gate.min_chrf == {}
