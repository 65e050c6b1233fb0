"""Pages of another origin, and what browsers and other plain clients of HTTP send: the real server, a real Chromium."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.browser import find_browser, start_browser
from tests.helpers.servers import Server, start_server

CHAT = "/v1/chat/completions"
HELLO = {"model": "prometheus-mini", "messages": [{"role": "user", "content": "привет"}], "max_tokens": 5}
TOKEN = "letmein"
CALL = """
fetch(URL, {method: "POST", body: JSON.stringify(BODY),
            headers: {"content-type": "application/json", authorization: "Bearer TOKEN"}})
  .then(async (answer) => [answer.status, await answer.text()], (error) => [0, String(error)])
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: Any) -> None:
        """Be silent."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of a page of another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages:
        threading.Thread(target=partial(pages.serve_forever, 0.05), daemon=True).start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()


@pytest.fixture(scope="module")
def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory, elsewhere: str) -> Iterator[Server]:
    """A server with a token that the other origin, and one more, may call."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "token").write_text(TOKEN)
    options = ["--allow_origins", elsewhere, "https://app.example", "--token_file", str(folder / "token")]
    with start_server(tiny, folder / "log", *options) as running:
        yield running


def preflight(url: str, origin: str, **headers: str) -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization,content-type,x-stainless-os"
    return httpx.options(url + CHAT, headers={**asked, **headers}, timeout=30)


def test_a_browser_asks_before_it_sends_the_token(shared: Server) -> None:
    answer = preflight(shared.url, "https://app.example", **{"access-control-request-private-network": "true"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-origin" not in preflight(shared.url, "https://evil.example").headers


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [(HELLO, TOKEN, 200), ({**HELLO, "stream": True}, TOKEN, 200), ({**HELLO, "n": 9}, TOKEN, 400), (HELLO, "no", 401)],
    ids=["whole", "streamed", "refused", "no token"],
)
def test_answers_streams_and_errors_may_be_read(shared: Server, body: dict[str, Any], token: str, status: int) -> None:
    headers = {"origin": "https://app.example", "authorization": f"Bearer {token}"}
    answer = httpx.post(shared.url + CHAT, json=body, headers=headers, timeout=30)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "retry-after" in answer.headers["access-control-expose-headers"]
    other = httpx.post(shared.url + CHAT, json=body, headers={**headers, "origin": "https://evil.example"}, timeout=30)
    assert "access-control-allow-origin" not in other.headers


def test_off_by_default(client: httpx.Client) -> None:
    answer = preflight(str(client.base_url).rstrip("/"), "http://127.0.0.1:1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = client.post(CHAT, json=HELLO, headers={"origin": "http://127.0.0.1:1"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_any_origin(tiny: Path, tmp_path: Path) -> None:
    with start_server(tiny, tmp_path / "log", "--allow_origins", "*") as server:
        assert preflight(server.url, "null").headers["access-control-allow-origin"] == "*"
        answer = httpx.get(server.url + "/v1/models", headers={"origin": "null"}, timeout=30)
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here: pages of another origin are NOT tested in one")
def test_a_page_elsewhere_in_a_real_browser(server: Server, shared: Server, elsewhere: str, tmp_path: Path) -> None:
    def call(page: Any, url: str, body: dict[str, Any]) -> tuple[int, str]:
        script = CALL.replace("URL", json.dumps(url + CHAT)).replace("BODY", json.dumps(body)).replace("TOKEN", TOKEN)
        status, text = page.run(script)
        return status, text

    with start_browser(tmp_path / "profile") as browser, browser.page() as page:
        page.open(elsewhere)
        status, text = call(page, shared.url, HELLO)
        assert (status, json.loads(text)["choices"][0]["finish_reason"]) == (200, "length")
        status, text = call(page, shared.url, {**HELLO, "stream": True})
        assert status == 200
        assert text.endswith("data: [DONE]\n\n")
        status, text = call(page, shared.url, {**HELLO, "heat": 1})
        assert status == 400
        assert "heat" in text
        status, text = call(page, server.url, HELLO)  # which allows no one
        assert (status, text) == (0, "TypeError: Failed to fetch")


JSON = json.dumps({"prompt": "2024"})
BODIES: dict[str, tuple[bytes, int, str]] = {
    "UTF-8 with a mark": (JSON.encode("utf-8-sig"), 200, "2024"),
    "empty": (b"", 400, "body: is empty; send a JSON object"),
    "blank": (b" \r\n", 400, "body: is empty; send a JSON object"),
    "a mark alone": (b"\xef\xbb\xbf", 400, "body: is empty; send a JSON object"),
    "UTF-16": (JSON.encode("utf-16"), 400, "body: is UTF-16; send the JSON in UTF-8"),
    "UTF-16 without a mark": (JSON.encode("utf-16-le"), 400, "body: is UTF-16; send the JSON in UTF-8"),
    "UTF-16, big end first": (JSON.encode("utf-16-be"), 400, "body: is UTF-16; send the JSON in UTF-8"),
    "UTF-32": (JSON.encode("utf-32"), 400, "body: is UTF-32; send the JSON in UTF-8"),
    "UTF-32 without a mark": (JSON.encode("utf-32-be"), 400, "body: is UTF-32; send the JSON in UTF-8"),
    "cp1251": ('{"prompt": "кот"}'.encode("cp1251"), 400, "body: is not valid UTF-8 JSON (line 1, column 1)"),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_as_editors_and_shells_write_them(client: httpx.Client, case: str) -> None:
    body, status, words = BODIES[case]
    answer = client.post("/generate", content=body)
    assert (answer.status_code, answer.json().get("text", answer.json().get("error"))) == (status, words)
    if status == 400:
        for path in (CHAT, "/v2/models/prometheus-mini/infer"):
            assert words in client.post(path, content=body).text


GET = [
    *("/", "/info", "/health", "/health/live", "/health/ready", "/v1/health", "/openai/health", "/metrics"),
    *("/v1/models", "/v1/models/prometheus-mini", "/openai/v1/models", "/openai/v1/models/prometheus-mini"),
    *("/v2", "/v2/models", "/v2/models/prometheus-mini", "/v2/models/prometheus-mini/versions/1"),
    *("/v2/models/prometheus-mini/ready", "/v2/health/live", "/v2/health/ready"),
]


@pytest.mark.parametrize("path", GET)
def test_head_is_answered_where_get_is(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert client.get("/health/live").json() == {"live": True}, "the connection is out of step"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/generate", "POST"),
        ("DELETE", "/v1/models/prometheus-mini", "GET, HEAD, POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", CHAT, "POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("OPTIONS", "/v2/models/prometheus-mini/infer", "POST"),
    ],
)
def test_what_an_address_takes_is_told(client: httpx.Client, method: str, path: str, allow: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert (
        f"{method} is not answered at {path}; send {allow.replace(', HEAD', '').replace(', ', ' or ')}" in answer.text
    )


@pytest.mark.parametrize("path", ["/v1/embeddings", "/openai/v1/nowhere", "/api/tags"])
def test_an_address_that_is_not_there_names_those_that_are(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={})
    assert answer.status_code == 404
    assert f"no such address: {path}; OpenAI's API is at /v1" in answer.text
