"""Work grows with what a caller sends and no faster, and the server answers its probes beside the hardest texts.

On a busy machine nothing here is measured by the clock: what a probe waits for is the processor time of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from serving.config import ServerConfig
from serving.engine.detokenizer import Detokenizer
from serving.errors import InvalidRequest, shown
from serving.grpc.messages import read_grpc
from serving.kserve.sdk import pb
from serving.parameters import read_parameters
from serving.rest.bodies import read_json
from serving.rest.forms import FORM, MULTIPART, form_fields
from serving.rest.libretranslate import TRANSLATE
from serving.v2 import decode_text, unpack_bytes
from tests.helpers.bundles import tiny_bundle
from tests.helpers.cost import LINEAR, growth, seconds
from tests.helpers.servers import Server, start_server

STOPS: dict[str, Callable[[int], list[str]]] = {
    "one is held back, the others begin otherwise": lambda size: ["a" * size + "b", *["c" + "a" * size] * 15],
    "each ends in its middle": lambda size: ["a" * (size // 2) + "b" + "a" * (size // 2)] * 15 + ["a" * size + "b"],
}


@pytest.mark.parametrize("stops", STOPS)
def test_a_token_costs_the_same_however_long_the_stop_strings_are(stops: str) -> None:
    """The text might become one of them all the time, and never does."""

    def push(strings: list[str]) -> None:
        detokenizer = Detokenizer([b"aaaa"], ["aaaa"], False, tuple(strings))
        for _ in range(2000):
            detokenizer.push(0)

    assert growth(push, STOPS[stops], 64, most=64) < 3  # 4 where each beginning is compared with each end


def form(kind: str) -> Callable[[str], object]:
    """Reads a text as the body of a door."""

    def call(text: str) -> object:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": text.encode(), "more_body": False}

        headers = [(b"content-type", kind.encode())]
        request = Request({"type": "http", "method": "POST", "headers": headers, "query_string": b""}, receive)
        return asyncio.run(form_fields(request, ServerConfig(max_prompts=1 << 20, max_body_bytes=1 << 30), TRANSLATE))

    return call


def refused(call: Callable[[str], object]) -> Callable[[str], object]:
    def run(text: str) -> None:
        with contextlib.suppress(InvalidRequest):
            call(text)

    return run


BODIES: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "digits": (lambda text: read_json(text.encode()), lambda size: '{"seed": ' + "9" * size + "}"),
    "deep": (lambda text: read_json(text.encode()), lambda size: '{"a": ' + "[" * size),
    "keys": (lambda text: read_json(text.encode()), lambda size: "{" + '"a":1,' * size + '"b":1}'),
    "escapes": (lambda text: read_json(text.encode()), lambda size: '{"a": "' + "\\u0300" * size + '"}'),
    "stop": (lambda text: read_parameters({"stop": text}), lambda size: "[" * size),
    "stop of digits": (lambda text: read_parameters({"stop": text}), lambda size: "[" + "9" * size + "]"),
    "glossary": (lambda text: read_parameters({"glossary": text}), lambda size: "[" * size),
    "glossary of digits": (lambda text: read_parameters({"glossary": text}), lambda size: "[" + "9" * size + "]"),
    "term": (lambda text: read_parameters({"glossary": {text: text}}), lambda size: "a " * size),
    "stops": (lambda text: read_parameters({"stop": text}), lambda size: json.dumps(["a"] * size)),
    "number": (lambda text: read_parameters({"seed": text}), lambda size: "9" * size),
    "shown": (shown, lambda size: "\x00" * size),
    "texts": (lambda text: decode_text([text.encode()], 1), lambda size: "\u0300" * size),
    "form": (form(FORM), lambda size: "q=%41&" * size),
    "escaped form": (form(FORM), lambda size: "q=" + "%D0%B0" * size),
    "multipart": (
        form(f"{MULTIPART}; boundary=b"),
        lambda size: '--b\r\ncontent-disposition: form-data; name="q"\r\n\r\n' + "\r\n-" * size + "\r\n--b--\r\n",
    ),
    "binary": (lambda text: unpack_bytes(text.encode(), len(text) // 4), lambda size: "\0" * 4 * size),
}


@pytest.mark.parametrize("body", BODIES)
def test_reading_a_request_is_linear(body: str) -> None:
    call, make = BODIES[body]
    assert growth(refused(call), make, 1 << 10, most=1 << 17) < LINEAR


def many_parameters() -> pb.ModelInferRequest:
    request = infer_request()
    for i in range(90_000):
        request.parameters[f"{i:x}"].int64_param = 1
    return request


def many_unknown_fields() -> pb.ModelInferRequest:
    request = infer_request()
    request.parameters["seed"].CopyFrom(pb.InferParameter.FromString(b"\x50\x01" * 500_000))
    return request


def infer_request() -> pb.ModelInferRequest:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
    return pb.ModelInferRequest(model_name="m", inputs=[tensor])


@pytest.mark.parametrize("make", [many_parameters, many_unknown_fields])
def test_the_largest_call_over_grpc_is_read_within_a_moment(make: Callable[[], pb.ModelInferRequest]) -> None:
    """In the event loop, a megabyte of it; unknown fields alone took 0.7 s."""

    def read(request: pb.ModelInferRequest) -> None:
        with pytest.raises(InvalidRequest, match=r"^(parameters: has 90000|seed: holds no value)"):
            read_grpc(request, "m", 64)

    assert seconds(read, make()) < 0.05


# -- the probe beside hard texts ------------------------------------------------------------------------------------

LONGEST = 32 * 256  # characters that the tokenizer is given at most, uncut
HARD = {  # each has a letter: without one a text comes back as it is
    "marks": "a" + "\u0300" * 4000 + "\u0316" * 4000,
    "marks that decompose": "a" + "\u0344" * 4000 + "\u0f73" * 4000,
    "notes": "a" + "\U0001d160" * (LONGEST - 1),
    "bytes": "a" + "\U0010ffff" * (LONGEST - 1),
    "letters": "ж" * LONGEST,
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose longest prompt is as long as those of the profiles."""
    folder = tmp_path_factory.mktemp("wide")
    bundle = tiny_bundle(folder / "bundle", max_positions=256)
    with start_server(bundle, folder / "log", "--max_chars", str(21 * (LONGEST + 1))) as server:
        assert server.post("/generate", {"prompt": "a", "target": "en", "max_tokens": 1}).status_code == 200
        yield server


def processor_seconds(server: Server) -> float:
    """The server's processor time, all threads together."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def probed(server: Server, body: dict[str, object], calls: int) -> tuple[set[int], float]:
    """The statuses of so many calls at once; the processor time that lay before a probe beside them, by its median."""
    with (
        ThreadPoolExecutor(calls) as pool,
        httpx.Client(base_url=server.url, timeout=60, verify=False) as probes,
    ):
        posts = [pool.submit(server.post, "/generate", body) for _ in range(calls)]
        waits = []
        while not waits or not all(post.done() for post in posts):
            asked = processor_seconds(server)
            assert probes.get("/health/live").status_code == 200
            waits.append(processor_seconds(server) - asked)
        return {post.result().status_code for post in posts}, statistics.median(waits)


@pytest.mark.parametrize("text", HARD)
def test_the_probe_is_answered_beside_hard_texts(wide: Server, text: str) -> None:
    """Twenty at once: less than 0.2 s of work lies before a probe, where a single text of marks took 0.2 s."""
    statuses, wait = probed(wide, {"prompt": HARD[text], "target": "en", "split": False}, 20)
    assert statuses == {400}
    assert wait < 0.2


CUT = {
    "quotations": "«a" * 50_000,
    "a word a line": "ж\n" * 5_000,
    "marks": "a" + "\u0300" * 50_000 + "\u0316" * 49_999,
    "letters": "ж" * 100_000,
    "no language": "a" + ". " * 49_999,
    "sentences": "Кот спит. Она идёт домой! " * 3_800,
    "placeholders": "ж %s " * 20_000,
    "tags": "<b>ж</b>" * 12_000,
}


@pytest.mark.parametrize("text", [*CUT, "page"])
def test_the_probe_is_answered_beside_a_text_that_is_cut(wide: Server, text: str) -> None:
    """Of the longest that is taken: what lies before a probe is as little as beside others' short texts."""
    form = {"prompt": CUT["tags"][:16_000], "format": "html"} if text == "page" else {"prompt": CUT[text]}
    statuses, wait = probed(wide, {**form, "target": "en", "max_tokens": 1}, 2)
    assert statuses <= {200, 504}
    assert wait < 0.2


@pytest.mark.parametrize("text", HARD)
def test_a_hard_text_costs_a_moment(wide: Server, text: str) -> None:
    """By the cheapest of three times five: beside other work a processor's seconds grow too."""
    times = []
    for _ in range(3):
        start = processor_seconds(wide)
        for _ in range(5):
            body = {"prompt": HARD[text], "target": "en", "split": False}
            assert wide.post("/generate", body).status_code == 400
        times.append(processor_seconds(wide) - start)
    assert min(times) < 5 * 0.2  # 0.01 to 0.05 each, and twice that on a processor that others use too


def test_each_hard_text_of_a_call_costs_what_it_costs_alone(wide: Server) -> None:
    def cost(texts: list[str]) -> float:
        tensor = {"name": "text_input", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        start = processor_seconds(wide)
        body = {"inputs": [tensor], "parameters": {"target": "en", "split": False}}
        answer = wide.post("/v2/models/prometheus-mini/infer", body)
        assert answer.status_code == 400
        assert f"text_input[0]: has {LONGEST + 1} characters, more than {LONGEST}" in answer.text
        return processor_seconds(wide) - start

    longer = "a" * (LONGEST + 1)
    alone = sum(cost([longer, HARD["notes"]]) for _ in range(20))
    assert cost([longer] + [HARD["notes"]] * 20) < 2 * alone
