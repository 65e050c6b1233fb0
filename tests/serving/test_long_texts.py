"""A text in several pieces, through the service and the real server: put together as its pieces are alone, in order,
with the counts, ends, samples and log-probabilities of all of them; bounded, cancelled and refused as one text is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from model.bundle import Bundle
from model.text.pieces import join
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig, GenerationRequest, GenerationResult, TokenEvent, TokenLogprobs
from serving.errors import DeadlineExceeded, InvalidRequest, Overloaded
from serving.metrics import Metrics
from serving.pieces import WINDOW
from serving.rest.openai import Completion
from serving.service import TextService
from serving.texts import TextRequest
from tests.helpers.engines import LIVELY, talkative_bundle
from tests.helpers.servers import Server, start_server, wait_until
from tests.helpers.streams import PATHS, speak, text_of, unary

TEXT = (
    "- Привет! Как дела? 🙂\n\n1) кот спит.  Он ест; а пёс, который живёт на дворе, опять не ел и не спал весь день.\n"
)
LONG = "Кот спит. Он ест! " * 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_bundle(tmp_path_factory.mktemp("lively") / "bundle", **LIVELY["seq2seq"])


def service_of(folder: Path, registry: CollectorRegistry | None = None, **config: Any) -> TextService:
    fields = {name: config.pop(name) for name in ("slots", "queue") if name in config}
    metrics = Metrics("m", registry or CollectorRegistry())
    engine = Engine(Bundle.load(folder), EngineConfig(threads=1, **fields), observer=metrics).start()
    return TextService(engine, ServerConfig(bundle=str(folder), **config), metrics)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[TextService]:
    made = service_of(folder)
    yield made
    made.engine.close(drain=False)


def asked(*texts: str, samples: int = 1, logprobs: int | None = None, **parameters: Any) -> TextRequest:
    given = {"target": "en", "max_tokens": 9, **parameters}
    return TextRequest(list(texts), given, samples, logprobs, names={"text": "prompt"})


def complete(service: TextService, request: TextRequest) -> list[GenerationResult]:
    return asyncio.run(service.complete(request))


def streamed(service: TextService, request: TextRequest) -> list[tuple[int, TokenEvent]]:
    async def run() -> list[tuple[int, TokenEvent]]:
        async with aclosing(service.stream(request)) as events:
            return [pair async for pair in events]

    return asyncio.run(run())


def idle(service: TextService) -> bool:
    stats = service.engine.stats()
    return not stats["running"] and not stats["waiting"]


def alone(service: TextService, text: str, **sampling: Any) -> tuple[str, list[GenerationResult]]:
    """Every piece of a text by itself, and all of them put together by hand."""
    engine, results = service.engine, []
    pieces = list(engine.pieces(text, "en"))
    for piece in pieces[:-1]:
        results += engine.generate([GenerationRequest(piece.prompt, **{"max_tokens": 9, **sampling})])
    return join(pieces, [result.text for result in results]), results


SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.5, "seed": 3},
    "beams": {"beams": 3},
    "penalized": {"repetition_penalty": 1.3},
    "long enough to end": {"max_tokens": 60},
}


@pytest.mark.parametrize("kind", SAMPLING)
def test_a_text_is_its_pieces_put_together(service: TextService, kind: str) -> None:
    expected, results = alone(service, TEXT, **SAMPLING[kind])
    assert len(results) == 5
    request = asked(TEXT, **SAMPLING[kind])
    (found,) = complete(service, request)
    events = [event for _, event in streamed(service, request)]
    for result in (found, events[-1].result):
        assert result is not None
        assert result.text == expected
        assert result.token_ids == [token for one in results for token in one.token_ids]
        assert result.prompt_tokens == sum(one.prompt_tokens for one in results)
        assert result.generated_tokens == sum(one.generated_tokens for one in results) == len(result.token_ids)
        assert result.finish_reason == ("length" if "length" in {one.finish_reason for one in results} else "eos_token")
        assert result.queue_seconds >= 0 and 0 < result.first_token_seconds <= result.seconds
    assert "".join(event.text for event in events) == expected
    assert [event.result is None for event in events] == [True] * (len(events) - 1) + [False]
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
    counts = [(event.prompt_tokens, event.generated_tokens) for event in events]
    assert counts == sorted(counts) and counts[-1] == (events[-1].result.prompt_tokens, found.generated_tokens)


def test_one_piece_that_is_cut_is_a_text_that_is_cut(service: TextService) -> None:
    reasons = {one.finish_reason for one in alone(service, TEXT, max_tokens=20)[1]}
    assert reasons == {"length", "eos_token"}, "the pieces no longer end differently; choose another length"
    assert complete(service, asked(TEXT, max_tokens=20))[0].finish_reason == "length"


@pytest.mark.parametrize("text", ["Привет!", "кот, который спит", "Кот  спит\u00a0и ест"])
def test_one_sentence_is_one_request_as_without_cutting(service: TextService, text: str) -> None:
    before = service.engine.stats()["prefills"]
    (whole,) = complete(service, asked(text, split=False))
    (found,) = complete(service, asked(text))
    assert (found.text, found.token_ids, found.finish_reason) == (whole.text, whole.token_ids, whole.finish_reason)
    assert service.engine.stats()["prefills"] == before + 2


def test_without_cutting_a_text_is_one_prompt_with_its_limit(service: TextService) -> None:
    two = "Привет! Как дела?"
    (found,) = complete(service, asked(two, split=False))
    engine = service.engine
    (expected,) = engine.generate([GenerationRequest(engine.prompt(two, target="en"), max_tokens=9)])
    assert (found.text, found.prompt_tokens) == (expected.text, expected.prompt_tokens)
    with pytest.raises(InvalidRequest, match=r"prompt: has 142 tokens, this model takes at most 64"):
        complete(service, asked("ж" * 140, split=False))
    # Who wants a text of a known length wants one text.
    assert complete(service, asked(two, ignore_eos=True))[0].generated_tokens == 9


def test_the_whole_text_tells_its_language(service: TextService) -> None:
    """A piece by itself would not: the model's name is in no language that it knows."""
    text = "Кот спит. OK. Он ест."
    request = TextRequest([text], {"max_tokens": 9})
    assert complete(service, request)[0].text == complete(service, asked(text))[0].text


def test_a_stop_string_ends_the_text_in_a_piece_and_between_two(service: TextService) -> None:
    expected, results = alone(service, TEXT)
    for text in (
        lambda request: complete(service, request)[0],
        lambda request: streamed(service, request)[-1][1].result,
    ):
        between = text(asked(TEXT, stop=["\n\n"]))
        assert between.text == expected[: expected.index("\n\n")]
        assert between.finish_reason in ("stop_sequence", "length")
        word = results[1].text[2:5]
        inside = text(asked(TEXT, stop=[word]))
        assert inside.text == expected[: expected.index(word)] and len(inside.token_ids) < 20
    wait_until(lambda: idle(service), "the pieces behind the stop string are cancelled")
    told = "".join(event.text for _, event in streamed(service, asked(TEXT, stop=["\n\n"])))
    assert told == expected[: expected.index("\n\n")]


def test_samples_are_whole_texts_and_repeatable(service: TextService) -> None:
    request = asked(TEXT, "мир", samples=3, temperature=1.5, seed=7)
    first, again = complete(service, request), complete(service, request)
    assert [one.text for one in first] == [one.text for one in again]
    assert len({one.text for one in first[:3]}) == 3
    assert first[0].text == alone(service, TEXT, temperature=1.5, seed=7)[0]
    results = {index: event.result for index, event in streamed(service, request) if event.result is not None}
    assert [results[index].text for index in range(6)] == [one.text for one in first]


def test_log_probabilities_are_those_of_the_pieces_with_their_places(service: TextService) -> None:
    _, results = alone(service, TEXT, logprobs=2)
    gaps = [piece.gap for piece in service.engine.pieces(TEXT, "en")][:-1]
    request = asked(TEXT, logprobs=2)
    (found,) = complete(service, request)
    for one, gap in zip(results, gaps, strict=True):
        one.logprobs[0] = one.logprobs[0]._replace(gap=gap)
    assert found.logprobs == [each for one in results for each in one.logprobs]
    assert len(found.logprobs) == len(found.token_ids)
    told = [event.logprobs for _, event in streamed(service, request) if event.token_id is not None]
    assert told == found.logprobs


def test_offsets_of_tokens_count_what_stands_between_pieces(service: TextService) -> None:
    ids = service.engine.tokenizer.encode("abc")
    shape = Completion(service)
    logprobs = [
        TokenLogprobs(ids[0], -1.0, gap="- "),
        TokenLogprobs(ids[1], -1.0),
        TokenLogprobs(ids[2], -1.0, gap="\n"),
    ]
    text = "- ab\nc"
    whole = shape.choice(0, {}, logprobs, None)["logprobs"]
    streamed = [shape.choice(1, {}, [one], None)["logprobs"] for one in logprobs]
    for tokens, offsets in (
        (whole["tokens"], whole["text_offset"]),
        ([one["tokens"][0] for one in streamed], [one["text_offset"][0] for one in streamed]),
    ):
        assert (
            [text[at : at + len(token)] for token, at in zip(tokens, offsets, strict=True)] == tokens == ["a", "b", "c"]
        )


def test_log_probabilities_beyond_their_limit_are_refused(folder: Path) -> None:
    service = service_of(folder, max_logprobs=200)
    try:
        assert complete(service, asked(TEXT, logprobs=1))[0].logprobs
        with pytest.raises(
            InvalidRequest, match=r"logprobs: \d+ pieces x max_tokens 9 x \(1 \+ 9\) = \d+ .* exceed the 200"
        ):
            complete(service, asked(TEXT, logprobs=9))
    finally:
        service.engine.close(drain=False)


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_a_long_text_leaves_room_in_the_queue(folder: Path) -> None:
    """3,000 sentences, where two run and four may wait: none is refused, nor is anybody else."""
    service, waiting = service_of(folder, slots=2, queue=4), []

    async def run() -> None:
        long = asyncio.ensure_future(service.complete(asked(LONG, max_tokens=1)))
        while not long.done():
            (other,) = await service.complete(asked("привет", max_tokens=2))
            assert other.generated_tokens == 2
            waiting.append(service.engine.stats()["waiting"])
        (found,) = long.result()
        assert found.generated_tokens == 3000

    try:
        asyncio.run(run())
        assert len(waiting) > 20 and max(waiting) <= 3
    finally:
        service.engine.close(drain=False)


def test_a_call_that_fits_in_the_queue_is_not_refused_for_its_pieces(folder: Path) -> None:
    service = service_of(folder, slots=2, queue=4)
    try:
        found = complete(service, asked(*[TEXT] * 4, max_tokens=2))
        assert len({one.text for one in found}) == 1 and found[0].generated_tokens >= 9
        with pytest.raises(Overloaded):
            complete(service, asked(*[TEXT] * 5, max_tokens=2))
        wait_until(lambda: idle(service), "what was begun is cancelled")
    finally:
        service.engine.close(drain=False)


def test_who_does_not_take_the_text_holds_up_no_more_than_a_window(folder: Path) -> None:
    service = service_of(folder)

    async def run() -> None:
        before = sum(service.engine.stats()["finished"].values())
        async with aclosing(service.stream(asked(LONG, max_tokens=1))) as events:
            await anext(events)
            while not idle(service):
                await asyncio.sleep(0)
            assert sum(service.engine.stats()["finished"].values()) - before <= WINDOW + 1

    try:
        asyncio.run(run())
    finally:
        service.engine.close(drain=False)


def test_leaving_cancels_every_piece(service: TextService) -> None:
    async def leave_the_stream() -> None:
        async with aclosing(service.stream(asked(LONG, max_tokens=60))) as events:
            await anext(events)

    async def leave_the_call() -> None:
        call = asyncio.ensure_future(service.complete(asked(LONG, max_tokens=60)))
        while idle(service):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])

    for leave in (leave_the_stream, leave_the_call):
        asyncio.run(leave())
        wait_until(lambda: idle(service), "all pieces are cancelled")


def test_the_deadline_is_the_texts(folder: Path) -> None:
    service = service_of(folder, request_timeout=0.2)
    try:
        for run in (complete, streamed):
            with pytest.raises(DeadlineExceeded):
                run(service, asked(LONG * 3, max_tokens=60))
            wait_until(lambda: idle(service), "all pieces are cancelled")
    finally:
        service.engine.close(drain=False)


def test_the_characters_of_a_request_have_a_limit(folder: Path) -> None:
    service = service_of(folder, max_chars=50)
    try:
        with pytest.raises(
            InvalidRequest, match=r"prompt: has 51 characters, more than 50 in one request \(--max_chars\)"
        ):
            complete(service, asked("ж" * 51))
        with pytest.raises(InvalidRequest, match="prompt: has 60 characters in 2 texts, more than 50"):
            complete(service, asked("ж" * 30, "м" * 30))
        assert complete(service, asked("ж" * 50))[0].prompt_tokens > 50
    finally:
        service.engine.close(drain=False)


# -- the server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lively(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(folder, tmp_path_factory.mktemp("log") / "log") as running:
        yield running


@pytest.mark.parametrize("api", PATHS)
def test_every_door_takes_a_text_of_any_length(lively: Server, service: TextService, api: str) -> None:
    with httpx.Client(base_url=lively.url, timeout=60) as client:
        for text, split in ((TEXT, True), (LONG[:5000], True), ("Кот! Пёс!", False)):
            expected = complete(service, asked(text, max_tokens=5, split=split))[0].text
            given = {"target": "en", "max_tokens": 5} | ({} if split else {"split": False})
            path, body = unary(api, text, **given)
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert text_of(api, answer.json()) == expected
            told = speak(client, api, text, **given)
            assert told.text == expected and len(told.pieces) > 1


def test_v2_takes_a_text_of_any_length(lively: Server, service: TextService) -> None:
    expected = complete(service, asked(TEXT, max_tokens=5))[0]
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    body = {"inputs": [tensor], "parameters": {"target": "en", "max_tokens": 5}}
    outputs = lively.post("/v2/models/prometheus-mini/infer", body).json()["outputs"]
    values = {output["name"]: output["data"][0] for output in outputs}
    assert values["text_output"] == expected.text
    assert (values["prompt_tokens"], values["generated_tokens"]) == (expected.prompt_tokens, expected.generated_tokens)
