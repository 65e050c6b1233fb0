"""Watching through Prometheus: what is too much, and what its answers become. Its queries run on a real one in
tests/cluster."""

from __future__ import annotations

import json

import pytest

from release.golden import Golden, golden_of, greetings
from release.watch import Prometheus, Seen, WatchError, judge


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (Seen(1, 100, 0, 0.5), Seen(1, 100, 0, 0.4), ""),
        (Seen(1, 100, 1, 0.5), Seen(1, 100, 0, 0.5), ""),
        (Seen(1, 98, 2, 0.5), Seen(1, 100, 0, 0.5), "2.0% of its requests failed, 1.0% are allowed"),
        (Seen(1, 98, 2, 0.5), Seen(1, 97, 3, 0.5), ""),
        (Seen(1, 100, 0, 1.2), Seen(1, 100, 0, 0.5), "up to 1.200 s; with the one before, 1.100 s are allowed"),
        (Seen(1, 100, 0, 0.29), Seen(1, 100, 0, 0.1), ""),
        (Seen(1, 100, 0, 9.0), None, ""),
        (Seen(1, 100, 0, 9.0), Seen(1, 0, 0, None), ""),
        (Seen(1, 0, 0, None), Seen(1, 100, 0, 0.1), ""),
        (Seen(1, 0, 3, None), None, "100.0% of its requests failed"),
    ],
)
def test_what_is_too_much(now, before, words):
    told = judge(now, before)
    assert words in told and bool(words) == bool(told)


def test_a_runs_figures(stand_in):
    url, answers, asked = stand_in.url, stand_in.answers, stand_in.asked
    answers |= {"count(": 2, "request_success": 50, "request_rejected": 3, "histogram_quantile": "0.25"}
    assert Prometheus(f"{url}/").seen("run-1", "slm") == Seen(2, 50, 3, 0.25)
    assert all('slm_bundle_info{run_id="run-1",model_name="slm"}' in query for query in asked)
    assert not any("increase" in query for query in asked)
    Prometheus(url).seen("run-1", "slm", "10m")
    assert sum("increase" in query and "[10m]" in query for query in asked) == 3


def test_what_prometheus_does_not_have(stand_in):
    url, answers = stand_in.url, stand_in.answers
    assert Prometheus(url).seen("run-1", "slm") == Seen(0, 0, 0, None)
    answers["histogram_quantile"] = "NaN"
    assert Prometheus(url).seen("run-1", "slm").seconds is None
    for broken in ("broken", "refused"):
        answers["count("] = broken
        with pytest.raises(WatchError, match=f"Prometheus at {url}"):
            Prometheus(url).seen("run-1", "slm")
    with pytest.raises(WatchError, match="does not answer as one"):
        Prometheus("http://127.0.0.1:1").seen("run-1", "slm")


def summary(samples: list[dict], variant: str = "int8") -> str:
    return json.dumps(
        {"variants": [{"variant": "fp32", "samples": [{"source": "no"}]}, {"variant": variant, "samples": samples}]}
    )


def test_golden_requests_come_from_samples():
    samples = [{"source": f"s{i}", "direction": "ru-en", "output": f"o{i}"} for i in range(20)]
    found = golden_of(summary(samples), "int8")
    assert found[:2] == [Golden("s0", "en", "o0"), Golden("s2", "en", "o2")] and len(found) == 8
    drawn = [{"source": "Once", "direction": "", "output": "drawn by chance"}, {"source": "", "output": "x"}]
    assert golden_of(summary(drawn), "int8") == [Golden("Once", "", "")]


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"variants": 7}', summary([], "fp16"), '{"variants": [7]}']
)
def test_without_samples_there_are_none(text):
    assert golden_of(text, "int8") == []


@pytest.mark.parametrize(
    ("info", "count"),
    [
        ({"task": "translation", "languages": ["ru", "en"]}, 2),
        ({"task": "translation", "languages": ["de", "fr"]}, 2),
        ({"task": "translation", "languages": ["de", "en", "ru"]}, 4),
        ({"task": "text", "languages": []}, 2),
    ],
)
def test_greetings_for_a_model_without_golden_requests(info, count):
    found = greetings(info)
    assert len(found) == count and all(each.prompt for each in found)
    assert {each.target for each in found} <= {*info["languages"], ""}
