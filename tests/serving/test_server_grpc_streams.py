"""ModelStreamInfer of the real server process, with hand-made messages: pieces, faults, limits, and every end there is.

tests/serving/clients/triton_grpc.py calls it by tritonclient.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from benchmarks.load.messages import INFER, infer_request
from serving.grpc.messages import FINAL, StreamResponse
from serving.grpc.streams import ENDED
from serving.kserve.sdk import pb
from tests.helpers.servers import Server, start_server, wait_until
from tests.helpers.triton_streams import STREAM, KeptStream, joined, named, never_looked_at

MODEL = "prometheus-mini"
LONG = {"target": "en", "max_tokens": 2000, "ignore_eos": True, "split": False}


def asked(text: str, request_id: str, **parameters: Any) -> bytes:
    return named(infer_request(MODEL, text, {"target": "en", "max_tokens": 20, **parameters}), request_id)


def several(texts: list[str], request_id: str, **parameters: Any) -> bytes:
    message = pb.ModelInferRequest.FromString(asked(texts[0], request_id, **parameters))
    message.inputs[0].shape[0] = len(texts)
    message.inputs[0].contents.bytes_contents[:] = [text.encode() for text in texts]
    return message.SerializeToString()


@asynccontextmanager
async def open_channel(server: Server) -> AsyncIterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        yield channel


def on(server: Server, use: Callable[[Any], Awaitable[None]]) -> None:
    """Use a channel of its own."""

    async def run() -> None:
        async with open_channel(server) as channel:
            await asyncio.wait_for(use(channel), 120)

    asyncio.run(run())


def opened(channel: Any) -> Any:
    return channel.stream_stream(STREAM, response_deserializer=StreamResponse.FromString)()


async def until_final(call: Any, count: int) -> list[Any]:
    """Responses until so many requests have had their last one."""
    found = []
    while count:
        response = await call.read()
        assert response is not grpc.aio.EOF, "the stream ended"
        found.append(response)
        count -= response.infer_response.parameters[FINAL].bool_param
    return found


async def answer(channel: Any, request: bytes) -> list[Any]:
    call = opened(channel)
    await call.write(request)
    responses = await until_final(call, 1)
    assert not responses[-1].error_message
    call.cancel()
    return [response.infer_response for response in responses]


async def unary(channel: Any, request: bytes) -> Any:
    return pb.ModelInferResponse.FromString(await channel.unary_unary(INFER)(request))


def parameters_of(response: Any) -> dict[str, str]:
    return {name: value.string_param for name, value in response.parameters.items() if name != FINAL}


@pytest.mark.parametrize(
    "request_",
    [
        asked("привет", "1"),
        asked("привет, мир. да нет! кто там?", "2"),
        asked("привет", "3", temperature="1.5", seed=7),
        asked("привет", "4", beams=2),
        asked("привет", "5", stop="а"),
        asked("12:30", "6"),
        asked("<p>привет</p><p>мир</p>", "7", format="html"),
        asked("привет мир", "8", source="auto"),
        several(["привет", "12:30", "мир. да!", "hi да"], "9"),
        several(["привет", "hi да"], "10", target=""),
    ],
    ids=lambda request: pb.ModelInferRequest.FromString(request).id,
)
def test_pieces_joined_are_the_whole_answer(server: Server, request_: bytes) -> None:
    async def use(channel: Any) -> None:
        whole = await unary(channel, request_)
        responses = await answer(channel, request_)
        assert joined(responses) == joined([whole])
        assert parameters_of(responses[-1]) == parameters_of(whole)
        assert {(one.id, one.model_name, one.model_version) for one in responses} == {(whole.id, MODEL, "1")}
        assert all(list(one.outputs) == list(whole.outputs) for one in responses)
        assert [one.parameters[FINAL].bool_param for one in responses] == [False] * (len(responses) - 1) + [True]

    on(server, use)


def test_a_piece_comes_before_the_text_is_whole(slow: Path, tmp_path: Path) -> None:
    async def use(channel: Any) -> None:
        call = opened(channel)
        await call.write(asked("привет", "long", **LONG))
        first = await call.read()
        assert not first.infer_response.parameters[FINAL].bool_param
        assert server.engine()["running"] == 1
        call.cancel()

    with start_server(slow, tmp_path / "log") as server:
        on(server, use)


def test_requests_under_way_together(server: Server) -> None:
    """They interleave, each in its own order; those in fault are answered by name, and the others go on."""

    async def use(channel: Any) -> None:
        requests = {str(number): asked("привет, мир", str(number), max_tokens=10 + number) for number in range(6)}
        call = opened(channel)
        for number, request in enumerate(requests.values()):
            await call.write(request)
            if number == 2:
                await call.write(asked("привет", "bad", temperature="99"))
                await call.write(b"\xff\xff\xff")
                await call.write(named(infer_request("other", "привет", {}), "elsewhere"))
        await call.done_writing()
        responses = await until_final(call, len(requests) + 3)
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
        errors = {one.infer_response.id: one.error_message for one in responses if one.error_message}
        assert errors["bad"].startswith("[request id: bad] temperature: must be")
        assert errors["elsewhere"] == f"[request id: elsewhere] model 'other' is not served here; {MODEL!r} is"
        assert errors[""] == "message: the bytes are no ModelInferRequest"
        assert len(errors) == 3
        good = [one.infer_response for one in responses if not one.error_message]
        order = [one.id for one in good]
        assert order != sorted(order), "no two of them interleave"
        for request_id, request in requests.items():
            pieces = [one for one in good if one.id == request_id]
            assert joined(pieces) == joined([await unary(channel, request)])

    on(server, use)


def test_a_request_without_a_good_text_and_a_wrong_wish(server: Server) -> None:
    async def use(channel: Any) -> None:
        wrong = pb.ModelInferRequest.FromString(asked("привет", "wish"))
        wrong.parameters["triton_enable_empty_final_response"].int64_param = 1
        call = opened(channel)
        for request in (several(["hi да", "да hi"], "none", target=""), wrong.SerializeToString()):
            await call.write(request)
        errors = sorted([one.error_message for one in await until_final(call, 2)])
        assert "[request id: none] target: " in errors[0]
        assert errors[1] == "[request id: wish] triton_enable_empty_final_response: must be true or false, not 1"
        call.cancel()

    on(server, use)


def test_half_close_waits_for_what_is_under_way(slow: Path, tmp_path: Path) -> None:
    async def use(channel: Any) -> None:
        call = opened(channel)
        for request_id in "ab":
            await call.write(asked("привет", request_id, **{**LONG, "max_tokens": 300}))
        await call.done_writing()
        assert {one.infer_response.id for one in await until_final(call, 2)} == {"a", "b"}
        assert await call.read() is grpc.aio.EOF
        assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
        empty = opened(channel)
        await empty.done_writing()
        assert await empty.read() is grpc.aio.EOF

    with start_server(slow, tmp_path / "log") as server:
        on(server, use)


@pytest.mark.parametrize("how", ["cancelled", "deadline", "gone"])
def test_a_client_that_leaves_frees_its_slots(slow: Path, tmp_path: Path, how: str) -> None:
    async def use(channel: Any) -> None:
        timeout = 5 if how == "deadline" else None
        call = channel.stream_stream(STREAM, response_deserializer=StreamResponse.FromString)(timeout=timeout)
        for request_id in "abcd":
            await call.write(several(["привет"] * 8, request_id, **LONG))
        assert await call.read() is not grpc.aio.EOF
        taken = lambda: sum(map(server.engine().get, ("running", "waiting"))) > 3 * 8  # noqa: E731
        await asyncio.to_thread(wait_until, taken, "all four are taken, and none is answered", 20)
        if how == "cancelled":
            call.cancel()
        elif how == "deadline":
            assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            await channel.close()
        free = lambda: not server.engine()["running"] + server.engine()["waiting"]  # noqa: E731
        await asyncio.to_thread(wait_until, free, "every slot is free", 20)

    def cancelled() -> list[dict[str, Any]]:
        return [line for line in server.lines() if line.get("route") == "ModelStreamInfer"]

    with start_server(slow, tmp_path / "log", "--slots", "2", "--request_timeout", "3600") as server:
        on(server, use)
        wait_until(lambda: len(cancelled()) == 4, "all are in the log")
        assert {line["status"] for line in cancelled()} == {"CANCELLED"}
        assert not [line for line in server.lines() if "exception" in line]


def test_a_request_has_its_own_deadline(slow: Path, tmp_path: Path) -> None:
    async def use(channel: Any) -> None:
        call = opened(channel)
        await call.write(asked("привет", "long", **LONG))
        await call.write(asked("привет", "short", max_tokens=2))
        ends = [one for one in await until_final(call, 2) if one.infer_response.parameters[FINAL].bool_param]
        assert [one.infer_response.id for one in ends] == ["short", "long"]
        assert "deadline" in ends[1].error_message
        await call.write(asked("привет", "after", max_tokens=2))
        assert not (await until_final(call, 1))[-1].error_message
        call.cancel()

    with start_server(slow, tmp_path / "log", "--request_timeout", "0.3") as server:
        on(server, use)
        text = server.get("/metrics").text
        assert 'slm_request_rejected_total{model_name="prometheus-mini",reason="DeadlineExceeded"} 1.0' in text


def test_limits(tiny: Path, tmp_path: Path) -> None:
    """Of a message, and of a full queue; a stream takes requests for as long as a call may take to arrive."""

    async def use(channel: Any) -> None:
        call = opened(channel)
        await call.write(asked("привет" * 20_000, "large"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not never_looked_at(caught.value)
        call = opened(channel)
        for number in range(150):
            await call.write(asked("привет", str(number), max_tokens=30))
        responses = await until_final(call, 150)
        full = [one.error_message for one in responses if one.error_message]
        assert 0 < len(full) < 150 and all("requests are waiting already" in words for words in full), full[:3]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert (caught.value.details(), never_looked_at(caught.value)) == (ENDED, True)

    limits = ["--max_body_bytes", "65536", "--slots", "1", "--queue", "2", "--receive_timeout", "3"]
    with start_server(tiny, tmp_path / "log", *limits) as server:
        on(server, use)


def test_who_does_not_read_is_closed(slow: Path, tmp_path: Path) -> None:
    """Its answers are made all the same, and what waits is bounded for all clients together."""

    def figure(name: str) -> float:
        found = re.search(rf"^slm_{name}(?:{{.*}})? (\S+)$", server.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def use(channel: Any) -> None:
        expected = await unary(channel, asked("привет", "other", max_tokens=50))
        async with open_channel(server) as others:
            unread = opened(others)
            for number in range(40):
                await unread.write(several(["привет"] * 8, str(number), **LONG))
            assert joined(await answer(channel, asked("привет", "b", max_tokens=50))) == joined([expected])
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            rejected = lambda: figure("request_rejected_total") > 0  # noqa: E731
            await asyncio.to_thread(wait_until, rejected, "it is closed", 100)
            assert process.memory_info().rss - before < 60e6
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await unread.read() is not grpc.aio.EOF:
                    pass
            assert not never_looked_at(caught.value)
        free = lambda: not server.engine()["running"] + server.engine()["waiting"]  # noqa: E731
        await asyncio.to_thread(wait_until, free, "every slot is free", 20)
        assert figure("unread_bytes") == 0
        assert joined(await answer(channel, asked("привет", "b", max_tokens=50))) == joined([expected])

    limits = ["--max_unread_bytes", "300000", "--request_timeout", "3600", "--queue", "1000"]
    with start_server(slow, tmp_path / "log", *limits) as server:
        on(server, use)
        assert 'reason="ReaderTooSlow"} 1.0' in server.get("/metrics").text
        assert not [line for line in server.lines() if "exception" in line]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_with_what_they_have_taken(slow: Path, tmp_path: Path, sent: int) -> None:
    async def use(channel: Any) -> None:
        busy, idle, new = opened(channel), opened(channel), opened(channel)
        await idle.write(asked("привет", "idle", max_tokens=2))
        await until_final(idle, 1)
        await busy.write(asked("привет", "busy", **LONG))
        await busy.read()
        await new.wait_for_connection()
        server.process.send_signal(sent)
        for call in (idle, new):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert never_looked_at(caught.value)
        responses = await until_final(busy, 1)
        assert not responses[-1].error_message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await busy.read()
        assert (caught.value.details(), never_looked_at(caught.value)) == (ENDED, True)

    with start_server(slow, tmp_path / "log") as server:
        on(server, use)
        assert server.process.wait(60) == 0
        assert not [line for line in server.lines() if "exception" in line]


def test_a_draining_server_answers_a_request_on_each_new_stream(tiny: Path, tmp_path: Path) -> None:
    with (
        start_server(tiny, tmp_path / "log", "--drain_delay", "300") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stream = KeptStream(channel, seconds=60)
        expected = joined(stream.ask(asked("привет", "1")))
        server.process.send_signal(signal.SIGTERM)
        for _ in range(20):
            assert joined(stream.ask(asked("привет", "1"))) == expected
        assert stream.opened > 10
        channel.close()
        assert server.process.wait(60) == 0
