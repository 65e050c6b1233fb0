"""Configuration: typed, complete in its complaints, and readable."""

import math
import typing

import pytest
from pydantic import ValidationError

from model.config import PRESETS, ConfigError, NetworkConfig, Profile, from_dict, to_dict
from model.settings import describe


def test_all_problems_are_reported_together() -> None:
    data = {
        "corpus": {"kind": "audio", "max_chars": "long"},
        "trainig": {},
        "network": {"preset": "nope", "heads": 3, "kv_heads": 2},
    }
    with pytest.raises(ConfigError) as caught:
        from_dict(Profile, data, "profile")
    message = str(caught.value)
    assert "profile.corpus.kind: 'audio' is not one of parallel, text" in message
    assert "profile.corpus.max_chars: expected int, found 'long'" in message
    assert "profile.trainig: unknown setting" in message
    assert "profile.network.preset: 'nope' is not one of custom, prometheus-8m, mini-gpt" in message
    assert "heads (3) must be a multiple of kv_heads (2)" in message


def test_round_trip_through_floats() -> None:
    """Kubeflow carries every number of a dict as a float."""

    def floats(value):
        if isinstance(value, dict):
            return {k: floats(v) for k, v in value.items()}
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    network = NetworkConfig(decoder_mixer="ssru", head_counts={"decoder.0.cross": 3})
    for profile in (Profile(name="x"), Profile(network=network)):
        assert from_dict(Profile, floats(to_dict(profile))) == profile


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_can_be_overridden(preset: str) -> None:
    assert from_dict(NetworkConfig, {"preset": preset, "d_ff": 96}).d_ff == 96


def test_booleans_are_not_numbers() -> None:
    with pytest.raises(ConfigError, match="steps: expected int, found True"):
        from_dict(Profile, {"training": {"steps": True}})


def test_every_setting_has_a_sentence() -> None:
    lines = [line for line in describe(Profile) if "=" in line]
    assert len(lines) > 40
    assert all("\n    " in line for line in lines)


@pytest.mark.parametrize(
    ("section", "settings", "problem"),
    [
        ("training", {"steps": -1}, "must be at least 1, not -1 (Optimiser steps"),
        ("training", {"steps": 0}, "must be at least 1"),
        ("training", {"steps": 1e300}, "must be at most 2147483647"),
        ("training", {"batch_tokens": 0}, "must be at least 1"),
        ("training", {"grad_accum_steps": 0}, "must be at least 1"),
        ("training", {"eval_every": 0}, "must be at least 1"),
        ("training", {"save_every": 0}, "must be at least 1"),
        ("training", {"patience": -1}, "must be at least 0"),
        ("training", {"warmup_steps": -1}, "must be at least 0"),
        ("training", {"final_lr_fraction": 7}, "must be at most 1, not 7"),
        ("training", {"warmdown_fraction": 3}, "must be at most 1"),
        ("training", {"muon_lr": 0}, "must be above 0"),
        ("training", {"adam_lr": -1}, "must be above 0"),
        ("training", {"adam_lr": math.nan}, "must be a finite number"),
        ("training", {"grad_clip": math.inf}, "must be a finite number"),
        ("training", {"label_smoothing": 1}, "must be below 1"),
        ("training", {"threads": 10**6}, "must be at most 4096"),
        ("training", {"seed": 0.5}, "expected int, found 0.5"),
        ("corpus", {"valid_rows": -5}, "must be at least 0"),
        ("corpus", {"max_chars": 0}, "must be at least 1"),
        ("corpus", {"min_script_ratio": 1.5}, "must be at most 1"),
        ("corpus", {"max_length_ratio": 0.5}, "must be at least 1"),
        ("corpus", {"languages": []}, "must be different language codes such as ru and en, not []"),
        ("corpus", {"languages": ["ru", "ru"]}, "must be different language codes"),
        ("corpus", {"languages": ["ru", ""]}, "languages[1]: '' is not of the form"),
        ("corpus", {"languages": ["ru", "e n"]}, "languages[1]: 'e n' is not of the form"),
        ("corpus", {"languages": ["ru", "en", "de"]}, "sentence pairs are in two languages, not in [ru, en, de]"),
        ("corpus", {"languages": "ru"}, "expected a list, found 'ru'"),
        ("tokenizer", {"vocab_size": 0}, "must be above 256"),
        ("tokenizer", {"character_coverage": 0}, "must be above 0"),
        ("network", {"dropout": 2}, "must be below 1"),
        ("network", {"head_dim": 24}, "must be a multiple of 16"),
        ("network", {"heads": 0}, "must be at least 1"),
        ("network", {"encoder_layers": 0}, "a seq2seq network needs at least one encoder layer"),
        ("network", {"norm_eps": "tiny"}, "expected float, found 'tiny'"),
        ("quantization", {"calibration_rows": 0}, "must be at least 1"),
        ("evaluation", {"samples": -1}, "must be at least 0"),
        ("evaluation", {"loss_rows": 0}, "must be at least 1"),
        ("gate", {"max_chrf_loss": {"int9": 0.1}}, "'int9' is not one of fp16, int8"),
        ("gate", {"max_bytes_ratio": {"int8": 0}}, "must be above 0"),
        ("gate", {"min_chrf": {"heldout/ru-en": 101}}, "must be at most 100"),
        ("gate", {"max_loss": -1}, "must be at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_path(section: str, settings: dict, problem: str) -> None:
    (name, value), *_ = settings.items()
    with pytest.raises(ConfigError) as caught:
        from_dict(Profile, {section: settings}, "mine")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"mine.{section}.{name}") and problem in line
    if isinstance(value, dict):
        assert f".{next(iter(value))}: " in line


def test_numbers_as_yaml_and_kubeflow_write_them() -> None:
    data = {"training": {"adam_lr": "1e-6", "steps": 5.0}, "gate": {"max_chrf_loss": {"int8": "1e-2"}}}
    profile = from_dict(Profile, data)
    assert (profile.training.adam_lr, profile.training.steps) == (1e-6, 5)
    assert profile.gate.max_chrf_loss == {"int8": 0.01} and isinstance(profile.training.steps, int)
    for value in ("5", "five", None, [5]):
        with pytest.raises(ConfigError, match=r"training.steps: expected int, found"):
            from_dict(Profile, {"training": {"steps": value}})


def test_a_preset_is_its_settings_and_leaves_no_trace() -> None:
    named = from_dict(NetworkConfig, {"preset": "mini-gpt"})
    assert named == from_dict(NetworkConfig, PRESETS["mini-gpt"]) and "preset" not in to_dict(named)
    assert set(typing.get_args(NetworkConfig.model_fields["preset"].annotation)) == {"custom", *PRESETS}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Profile().training.steps = 5  # type: ignore[misc]
