"""REST of the real server process, whatever the protocol: addresses, health, limits, rubbish, logs."""

from __future__ import annotations

import gzip
import random
import re
import socket
import uuid
from pathlib import Path
from typing import Any

import httpx

from tests.helpers.servers import start_server, wait_until

INFER = "/v2/models/prometheus-mini/infer"


def test_body_limit(client: httpx.Client) -> None:
    response = client.post("/generate", content=b"x" * 70_000)
    assert response.status_code == 413
    assert "65536" in response.json()["error"]
    chunked = client.post(INFER, content=iter([b"x" * 40_000] * 3))
    assert "content-length" not in chunked.request.headers
    assert chunked.status_code == 413
    bomb = gzip.compress(b" " * 10_000_000)
    assert client.post(INFER, content=bomb, headers={"content-encoding": "gzip"}).status_code == 413


def test_json_nested_deeper_than_python_can_print_is_the_callers_mistake(client: httpx.Client) -> None:
    deep = "[" * 990 + "]" * 990
    tensor = '"name": "text_input", "datatype": "BYTES", "shape": [1]'
    for path, body, words in (
        *(
            ("/generate", f'{{"prompt": "a", "target": "en", "{name}": {deep}}}', name)
            for name in ("temperature", "stop", "author", "do_sample", "num_return_sequences")
        ),
        ("/openai/v1/completions", f'{{"prompt": "a", "model": {deep}}}', "model"),
        (INFER, f'{{"inputs": [{{"name": "text_input", "datatype": {deep}, "shape": [1]}}]}}', "datatype"),
        (INFER, f'{{"inputs": [{{"name": "text_input", "datatype": "BYTES", "shape": {deep}}}]}}', "shape"),
        (INFER, f'{{"inputs": [{{{tensor}, "parameters": {{"binary_data_size": {deep}}}}}]}}', "binary_data_size"),
    ):
        response = client.post(path, content=body)
        assert response.status_code == (404 if words == "model" else 400), (path, words, response.text)
        assert words in response.text
        assert len(response.text) < 250


def test_addresses_that_are_not_there(client: httpx.Client) -> None:
    for method, path, status, words in (
        ("GET", "/nowhere", 404, "/nowhere"),
        ("POST", "/chat/completions", 404, "did you mean /v1/chat/completions or /openai/v1/chat/completions\\?"),
        ("POST", "/api/v1/generate", 404, "did you mean /generate\\?"),
        ("POST", "/v1/translate", 404, "did you mean /translate\\?"),
        ("GET", "/open-api.json", 404, "did you mean /openapi.json\\?"),
        ("GET", "/" + "a" * 3000, 404, "no such address: /a{199}; .* /docs tells all addresses"),
        ("GET", "/generate", 405, "GET"),
        ("POST", "/v2/models/other/infer", 404, "'other' is not served.*prometheus-mini"),
        ("GET", "/v2/models/other", 404, "'other'"),
        ("GET", "/v2/models/prometheus-mini/versions/7", 404, "no version '7'"),
        ("POST", "/v1/models/prometheus-mini:predict", 404, "v1 is not served"),
        ("POST", "/v2/repository/models/prometheus-mini/unload", 403, "closed"),
        ("POST", "/v2/repository/models/prometheus-mini/load", 403, "closed"),
    ):
        response = client.request(method, path)
        assert response.status_code == status, (path, response.text)
        assert re.search(words, response.text), response.text
    assert client.get("/health/ready").status_code == 200


def test_health_info_and_metadata(client: httpx.Client) -> None:
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/health"):
        assert client.get(path).status_code == 200, path
    assert client.get("/health").json()["status"] == "ok"
    info = client.get("/info").json()
    assert info["languages"] == ["ru", "en"]
    assert info["authors"] == ["guide"]
    assert info["parameters"] > 10_000
    assert (info["about"], info["introduction"]) == ("", None)
    assert info["defaults"] == {"temperature": 0, "max_tokens": 128, "beams": 1}
    assert (info["family"], info["task"], info["precision"]) == ("seq2seq", "translation", "fp32")
    assert info["limits"]["max_prompt_tokens"] == 64
    assert info["limits"]["max_prompts"] == 8
    assert info["provider"] == "CPUExecutionProvider"
    assert info["versions"]["kserve"] == "0.21.0"
    assert info["hardware"]["instructions"] and info["hardware"]["int8_products"].startswith("exact")
    for path in ("/v2/models/prometheus-mini", "/v2/models/prometheus-mini/versions/1"):
        metadata = client.get(path).json()
        assert metadata["versions"] == ["1"]
        assert metadata["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [-1]}]
        assert metadata["outputs"][0] == {"name": "text_output", "datatype": "BYTES", "shape": [-1]}
        assert client.get(path + "/ready").json() == {"name": "prometheus-mini", "ready": True}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/models").json() == {"models": ["prometheus-mini"]}


def test_junk_and_broken_off_requests_do_no_harm(server: Any, client: httpx.Client) -> None:
    post = b"POST /generate HTTP/1.1\r\nhost: x\r\n"
    for data in (
        post + b"content-length: 100\r\n\r\nhalf",
        post + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        post + b"content-length: -5\r\n\r\n",
        random.Random(0).randbytes(300),
    ):
        for port in (server.http_port, server.grpc_port):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(data)
    wait_until(lambda: '"status":499' in server.log.read_text(), "the half request is logged")
    assert client.get("/health/ready").status_code == 200
    log = server.log.read_text()
    assert not re.search(r'"status":5\d\d|Traceback', log)


def test_logs_are_json_lines_without_prompts(tiny: Path, tmp_path: Path) -> None:
    secret = uuid.uuid4().hex[:20]
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [65], "data": [secret] * 65}
    with start_server(tiny, tmp_path / "log") as server:
        server.post("/generate", {"prompt": secret, "target": "en"})
        server.post("/generate", {"prompt": secret, "target": "en", "max_tokens": 0})
        assert server.post(INFER, {"inputs": [tensor]}).status_code == 400
        assert server.logged(INFER)["status"] == 400
        assert server.logged("/generate", 2)["status"] == 400
        assert server.requests("/generate")[0]["status"] == 200
        assert server.requests("/generate")[0]["prompt_tokens"] == 22
        assert not any(line.get("route") == "GET /health/ready" for line in server.lines())
        assert secret not in server.log.read_text()
