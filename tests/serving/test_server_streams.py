"""Streamed answers of the real server process, the same promises on every streaming address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.helpers.servers import Server, start_server, wait_until
from tests.helpers.streams import PATHS, events_of, speak, stream_body, text_of, unary

LONG = {"target": "en", "max_tokens": 2000}
every_api = pytest.mark.parametrize("api", PATHS)
REASONS = {"generate": "length", "open_inference": None, "completions": "length", "chat": "length"}


@pytest.fixture(scope="module")
def narrow(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One request at a time, one more may wait."""
    log = tmp_path_factory.mktemp("narrow") / "log"
    with start_server(slow, log, "--slots", "1", "--queue", "1") as running:
        yield running


@every_api
def test_a_streamed_text_is_the_text(client: httpx.Client, api: str) -> None:
    parameters = {"target": "en", "max_tokens": 30, "repetition_penalty": 3.0}
    path, body = unary(api, "привет, мир", **parameters)
    whole = client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    found = speak(client, api, "привет, мир", **parameters)
    assert found.text == text_of(api, whole.json())
    assert len(found.pieces) > 10
    assert found.finish == REASONS[api]
    assert found.error is None
    assert found.done == ("openai" in PATHS[api])


@every_api
def test_a_stop_string_is_held_back(client: httpx.Client, api: str) -> None:
    parameters = {"target": "en", "max_tokens": 30, "repetition_penalty": 3.0}
    text = speak(client, api, "привет, мир", **parameters).text
    found = speak(client, api, "привет, мир", stop=[text[5:8]], **parameters)
    assert found.text == text[: text.index(text[5:8])]
    assert found.finish == {**REASONS, "generate": "stop_sequence", "completions": "stop", "chat": "stop"}[api]


@every_api
def test_pieces_come_while_the_rest_is_made(narrow: Server, api: str) -> None:
    with httpx.Client(base_url=narrow.url, timeout=60) as client:
        started = time.perf_counter()
        with client.stream("POST", PATHS[api], json=stream_body(api, "привет, мир", **LONG)) as response:
            lines = response.iter_lines()
            next(events_of(lines))
            first = time.perf_counter() - started
            assert narrow.engine()["running"] == 1
            for _ in lines:
                pass
        assert first < (time.perf_counter() - started) / 2


@every_api
def test_a_full_queue_refuses_before_the_stream_begins(narrow: Server, api: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = []
        for gauge in ("running", "waiting"):
            running.append(pool.submit(narrow.post, "/generate", {"prompt": "привет, мир", **LONG}))
            wait_until(lambda gauge=gauge: narrow.engine()[gauge] == 1, f"one is {gauge}")
        refused = narrow.post(PATHS[api], stream_body(api, "привет", target="en", max_tokens=3))
        assert narrow.get("/health/ready").status_code == 200
        assert [future.result().status_code for future in running] == [200, 200]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert "1 requests are waiting already" in refused.text
    # After the quick calls, streams have their slot again.
    assert narrow.post(PATHS[api], stream_body(api, "привет", target="en", max_tokens=3)).status_code == 200


@every_api
def test_who_leaves_frees_the_slot(narrow: Server, api: str) -> None:
    with (
        httpx.Client(base_url=narrow.url, timeout=60) as client,
        client.stream("POST", PATHS[api], json=stream_body(api, "привет, мир", **LONG)) as response,
    ):
        next(events_of(response.iter_lines()))
    wait_until(lambda: narrow.engine()["running"] == 0, "the slot is free")
    wait_until(lambda: narrow.requests(PATHS[api])[-1]["status"] == 499, "the log says that the client left")
    line = narrow.requests(PATHS[api])[-1]
    assert line["finish_reasons"] == {"cancelled": 1}
    assert 1 <= line["generated_tokens"] < 2000


def test_several_texts_in_one_stream(client: httpx.Client) -> None:
    prompts = ["привет", "мир"]
    body = {"model": "prometheus-mini", "prompt": prompts, "n": 2, "seed": 3, "temperature": 1.5, "max_tokens": 12}
    whole = client.post("/openai/v1/completions", json=body).json()
    with client.stream("POST", "/openai/v1/completions", json={**body, "stream": True}) as response:
        events = list(events_of(response.iter_lines()))
    texts = [""] * 4
    finished = []
    for event in events[:-1]:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
        finished += [choice["index"]] if choice["finish_reason"] else []
    assert events[-1] is None
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert sorted(finished) == [0, 1, 2, 3]
    assert len(set(texts)) == 4


def test_a_beam_search_streams_its_one_text(client: httpx.Client) -> None:
    parameters = {"target": "en", "max_tokens": 12, "beams": 3, "length_penalty": 0.7}
    whole = client.post("/generate", json={"prompt": "привет", **parameters})
    assert whole.status_code == 200, whole.text
    found = speak(client, "generate", "привет", **parameters)
    assert found.pieces == [whole.json()["text"]]


def test_a_deadline_in_the_middle_ends_the_stream_in_words(slow: Path, tmp_path: Path) -> None:
    with start_server(slow, tmp_path / "log", "--request_timeout", "0.3", "--slots", "1") as server:
        for api in PATHS:
            with httpx.Client(base_url=server.url, timeout=60) as client:
                found = speak(client, api, "привет, мир", **LONG)
            assert "deadline" in str(found.error), api
            assert found.pieces, api
            assert not found.done
            assert isinstance(found.error, dict) == ("openai" in PATHS[api])
            line = server.logged(PATHS[api])
            assert (line["status"], line["error"]) == (200, "DeadlineExceeded")
            assert line["finish_reasons"] == {"error": 1}
        wait_until(lambda: server.engine()["running"] == 0, "nothing runs")
        late = server.post("/generate", {"prompt": "привет, мир", **LONG})
        assert late.status_code == 504
        path, body = unary("open_inference", "привет, мир", **LONG)
        assert server.post(path, body).status_code == 424  # what their spec calls it


def test_one_log_line_tells_a_stream(tiny: Path, tmp_path: Path) -> None:
    """On a server that nobody else has called, so that the line can only be this stream's."""
    with start_server(tiny, tmp_path / "log") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for api in PATHS:
            found = speak(client, api, "привет", target="en", max_tokens=7)
            line = server.logged(PATHS[api])
            assert (line["status"], line["generated_tokens"], line["prompt_tokens"]) == (200, 7, 8), api
            assert line["finish_reasons"] == {"length": 1}
            assert 0 < line["first_token_seconds"] < line["seconds"]
            assert found.text not in server.log.read_text()
