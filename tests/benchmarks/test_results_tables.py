"""The documents' tables: beams have one of their own, of the variants that they were measured on."""

import pytest

from benchmarks import results
from model.files import write_json
from tests.evaluation.test_generation import measured


@pytest.fixture(autouse=True)
def recorded(tmp_path, monkeypatch):
    """A run whose int8 was measured with beams, and whose fp32 was not."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    variants = [measured(variant="fp32", search=None), measured()]
    write_json(
        tmp_path / "mine.json",
        {
            "variants": [variant.model_dump() for variant in variants],
            "published": "int8",
            "training": {"parameters": 1, "vocab_size": 1, "train_tokens": 1, "seconds": 60},
            "corpus": {"counts": {"train": 1}},
            "seconds": 60,
            "hardware": {"cpu": "Xeon"},
            "code_version": "abc",
        },
    )


def test_beams_have_a_table_of_their_own():
    table = results.beams_table("mine").splitlines()
    assert table[2:] == [
        "| int8, heldout, 4 beams ru-en | 50.0 | 50.5 (+0.5) |",
        "| int8, heldout, 4 beams en-ru | 50.0 | 50.3 (+0.3) |",
        "| int8, texts per second | 10.0 | 3.3 |",
    ]
    assert results.TABLES["beams"] is results.beams_table


def test_the_table_of_quality_is_greedy():
    table = results.quality_table("mine")
    assert "| heldout ru-en, 100 rows | 30.0 / 50.0 | 30.0 / 50.0 |" in table and "beams" not in table


def test_variations_have_a_table_of_their_own(monkeypatch):
    """Of every test set, with the difference to the same rows as they are."""
    load = results.load

    def with_dirty(name):
        result = load(name)
        scores = result["variants"][0]["scores"]
        dirty = [{**score, "test_set": f"{score['test_set']}, dirty", "plain_chrf": 51.0} for score in scores]
        return {**result, "variants": [{**result["variants"][0], "scores": [*scores, *dirty]}]}

    monkeypatch.setattr(results, "load", with_dirty)
    assert "dirty" not in results.quality_table("mine")
    assert "| heldout, dirty ru-en, 100 rows | 30.0 / 50.0 (−1.0) |" in results.varied_table("mine")
    assert "| heldout ru-en" not in results.varied_table("mine")
