"""The parts between the protocols and the engine, without a network: parameters, tensors, metrics, the service."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import signal
import struct
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest
from grpc._cython import cygrpc
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model.bundle import Bundle
from model.options import read_settings
from serving.__main__ import parser
from serving.config import ServerConfig
from serving.engine import Engine, EngineConfig
from serving.engine.runtime import Runtime
from serving.errors import EngineFailed, InvalidRequest, ServingError
from serving.grpc.messages import grpc_value, grpc_values
from serving.grpc.server import GrpcServer
from serving.kserve.sdk import pb
from serving.kserve.server import Server
from serving.logs import JsonFormatter, worth_a_line
from serving.metrics import Metrics
from serving.parameters import read_parameters
from serving.rest.answers import EventStream, sse
from serving.rest.middleware import RestMiddleware
from serving.rest.status import v2_health
from serving.service import Events, TextService
from serving.texts import TextRequest
from serving.v2 import decode_text, pack, unpack_bytes

quick = settings(deadline=None, max_examples=60)  # a busy machine makes any deadline a coincidence


@pytest.fixture
def service(tiny: Path) -> Iterator[TextService]:
    metrics = Metrics("prometheus-mini", CollectorRegistry())
    bundle = Bundle.load(tiny)
    engine = Engine(bundle, EngineConfig(slots=4, threads=1), observer=metrics)
    engine.start()
    found = TextService(engine, ServerConfig(bundle=str(tiny)), metrics)
    found.warm_up()
    metrics.begin(engine.stats, found.identity())
    yield found
    engine.close(drain=False)


def wanted(texts: list[str], samples: int = 1, **parameters: object) -> TextRequest:
    return TextRequest(texts, {"target": "en", **parameters}, samples=samples, names={"text": "text_input"})


def parameter(field: int, wire_type: int, payload: bytes) -> object:
    """An InferParameter parsed from its bytes on the wire."""
    request = pb.ModelInferRequest()
    request.parameters["x"].ParseFromString(bytes([field << 3 | wire_type]) + payload)
    return request.parameters["x"]


@quick
@given(st.floats(allow_nan=False))
def test_a_double_survives_kserves_message(value: float) -> None:
    found = grpc_value("temperature", parameter(4, 1, struct.pack("<d", value)))
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)


def test_other_grpc_values() -> None:
    request = pb.ModelInferRequest(
        parameters={"a": {"int64_param": 5}, "b": {"bool_param": True}, "c": {"string_param": "x"}}
    )
    assert {name: grpc_value(name, value) for name, value in request.parameters.items()} == {
        "a": 5,
        "b": True,
        "c": "x",
    }
    assert grpc_value("u", parameter(5, 0, b"\x07")) == 7
    with pytest.raises(InvalidRequest, match="seed: holds no value"):
        grpc_value("seed", parameter(9, 0, b"\x01"))


def test_parameters() -> None:
    found = read_parameters(
        {
            "max_tokens": "7",
            "temperature": 1,
            "top_k": 5.0,
            "stop": ["a", "b"],
            "seed": None,
            "target": "en",
            "priority": 1,
        }
    )
    assert found.sampling == {"max_tokens": 7, "temperature": 1.0, "top_k": 5, "stop": ("a", "b")}
    assert isinstance(found.sampling["top_k"], int)
    assert [read_parameters({}, task).sampling["temperature"] for task in ("translation", "text")] == [0, 0.8]
    assert "temperature" not in read_parameters({"beams": 4}, "text").sampling
    assert read_parameters({"temperature": 0}, "text").sampling == {"temperature": 0}
    assert (found.target, found.author) == ("en", None)
    assert read_parameters({"stop": '["a"]'}).sampling["stop"] == ('["a"]',)
    as_json = pb.ModelInferRequest(parameters={"stop": {"string_param": '["a", "b"]'}}).parameters
    assert grpc_values(as_json) == {"stop": ["a", "b"]}  # gRPC has no lists
    no_json = pb.ModelInferRequest(parameters={"stop": {"string_param": "[not JSON"}}).parameters
    assert grpc_values(no_json) == {"stop": "[not JSON"}


@quick
@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "temperature", "top_k", "seed", "stop", "target", "author", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40), st.lists, max_leaves=4
        ),
    )
)
def test_any_parameters_are_read_or_refused_by_name(raw: dict) -> None:
    try:
        read_parameters(raw)
    except InvalidRequest as error:
        assert error.field in raw
        assert len(str(error)) < 300


@quick
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_bytes_tensors_round_trip(texts: list[str]) -> None:
    raw = pack(texts) if texts else b""
    assert decode_text(unpack_bytes(raw, len(texts)), len(texts)) == texts


@quick
@given(st.binary(max_size=64), st.integers(0, 5))
def test_any_bytes_are_unpacked_or_refused(raw: bytes, count: int) -> None:
    try:
        items = unpack_bytes(raw, count)
    except InvalidRequest as error:
        assert error.field == "text_input"
    else:
        assert b"".join(struct.pack("<I", len(item)) + item for item in items) == raw


def test_command_line() -> None:
    words = ["--bundle", "b", "--http_port", "1234", "--slots", "3", "--request_timeout", "2.5"]
    options = parser().parse_args(words)
    server, engine = read_settings(ServerConfig, options), read_settings(EngineConfig, options)
    assert server == ServerConfig(bundle="b", http_port=1234, request_timeout=2.5)
    assert engine.slots == 3


def test_metrics_are_valid_and_cumulative() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("m", registry)
    metrics.interval(0.0001, 3)
    metrics.interval(0.0004, 2)
    metrics.interval(9.0, 1)
    metrics.refused("Overloaded")
    metrics.begin(lambda: {"running": 2, "waiting": 1, "kv_tokens": 5, "kv_capacity_tokens": 10}, {"run_id": "r"})
    assert registry.get_sample_value("slm_inter_token_latency_seconds_count", {"model_name": "m"}) == 0
    metrics.interval(0.0001, 3)
    metrics.interval(0.0004, 2)
    metrics.interval(9.0, 1)
    metrics.refused("Overloaded")

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value("slm_inter_token_latency_seconds_bucket", {"model_name": "m", "le": bound})

    assert (bucket("0.0002"), bucket("0.0005"), bucket("1.0"), bucket("+Inf")) == (3, 5, 5, 6)
    assert registry.get_sample_value("slm_request_rejected_total", {"model_name": "m", "reason": "Overloaded"}) == 1
    assert registry.get_sample_value("slm_num_requests_running", {"model_name": "m"}) == 2
    assert registry.get_sample_value("slm_kv_cache_usage_perc", {"model_name": "m"}) == 0.5
    assert b"slm_generation_tokens_total" in generate_latest(registry)


def test_log_lines_are_json_and_a_client_that_left_is_none() -> None:
    record = logging.LogRecord("serving", logging.INFO, "", 0, "a %s", ("b",), None)
    record.fields = {"status": 200}
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["status"]) == ("a b", 200)
    record.fields = {"route": "GET /\ud800"}
    assert json.loads(JsonFormatter().format(record))["message"] == "a b"
    for error, written in ((cygrpc.ExecuteBatchError("x"), False), (ValueError("x"), True)):
        unexpected = logging.LogRecord("grpc", logging.ERROR, "", 0, "x", (), (type(error), error, None))
        assert worth_a_line(unexpected) is written
    assert worth_a_line(record)


def test_samples_differ_and_are_reproducible(service: TextService) -> None:
    async def call() -> list[str]:
        request = wanted(["привет"], samples=4, max_tokens=12, temperature=2.0, seed=5)
        return [result.text for result in await service.complete(request)]

    first = asyncio.run(call())
    assert len(set(first)) == 4
    assert asyncio.run(call()) == first


def test_long_texts_are_tokenized_elsewhere_with_the_same_errors(service: TextService) -> None:
    async def call() -> None:
        await service.complete(wanted(["a" * 2000] * 20, split=False))

    with pytest.raises(InvalidRequest, match=r"text_input\[0\]: has 2002 tokens"):
        asyncio.run(call())


def test_draining_turns_readiness_off_and_answers_on(service: TextService) -> None:
    async def call() -> None:
        grpc = GrpcServer(service, None)
        server = Server(service, [], grpc)
        assert service.ready
        server.stop(signal.SIGTERM)
        assert not service.ready
        assert service.live
        assert v2_health("ready", service.ready) == {"error": "Server is not ready."}  # KServe's words
        assert v2_health("live", service.live) == {"live": True}
        (result,) = await service.complete(wanted(["a"]))
        assert result.error is None
        server.servers[0].close()  # it was never awaited

    asyncio.run(call())


def test_an_engine_that_dies_turns_liveness_off(service: TextService, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("private detail")

    async def call() -> ServingError:
        with pytest.raises(EngineFailed) as caught:
            await service.complete(wanted(["a"]))
        return caught.value

    monkeypatch.setattr(Runtime, "decode", broken)
    error = asyncio.run(call())
    assert "private detail" not in str(error)
    end = time.monotonic() + 5
    while service.live and time.monotonic() < end:
        time.sleep(0.01)
    assert not service.live
    assert not service.ready
    assert isinstance(asyncio.run(call()), EngineFailed)


def test_unexpected_errors_say_nothing_of_themselves(service: TextService) -> None:
    """Before the headers a plain 500, in the middle of a stream its last event."""

    async def broken(request: Request) -> Response:
        raise RuntimeError("private detail")

    async def breaking(request: Request) -> Response:
        async def chunks(events: Events) -> AsyncGenerator[bytes, None]:
            yield sse({"text": "a"})
            raise RuntimeError("private detail")

        return EventStream(request, service, wanted(["a"]), chunks)

    routes = [Route("/a", broken, methods=["POST"]), Route("/openai/b", breaking, methods=["POST"])]
    application = RestMiddleware(Starlette(), service, routes, None)

    async def call(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://x") as client:
            return await client.post(path, json={})

    whole, streamed = asyncio.run(call("/a")), asyncio.run(call("/openai/b"))
    assert (whole.status_code, whole.json()) == (500, {"error": "internal error; the server's log says more"})
    first, last, rest = streamed.text.split("\n\n")
    assert (streamed.status_code, first, rest) == (200, 'data: {"text":"a"}', "")
    assert json.loads(last.removeprefix("data: "))["error"] == {
        "message": "internal error; the server's log says more",
        "type": "server_error",
        "param": None,
        "code": None,
    }
