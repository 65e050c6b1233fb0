"""Configuration: typed, complete in its complaints, and readable."""

import pytest

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

    profile = Profile(name="x")
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
