"""The streaming addresses of the server, spoken to alike, for tests that hold for all of them.

for piece in Stream.open(server, "chat", "привет", max_tokens=5): ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

V2 = "/v2/models/prometheus-mini/versions/1/generate_stream"
PATHS = {
    "generate": "/generate_stream",
    "open_inference": V2,
    "completions": "/openai/v1/completions",
    "chat": "/openai/v1/chat/completions",
}


@dataclass
class Spoken:
    """A streamed text, put together again: pieces as they came, and what its events said."""

    pieces: list[str]
    finish: str | None
    error: Any
    events: list[dict[str, Any]]
    done: bool  # OpenAI's [DONE]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def stream_body(api: str, text: str, **parameters: Any) -> dict[str, Any]:
    """A request for a streamed text."""
    if api == "generate":
        return {"prompt": text, **parameters}
    if api == "open_inference":
        return {"text_input": text, "parameters": parameters}
    asked = {"prompt": text} if api == "completions" else {"messages": [{"role": "user", "content": text}]}
    return {"model": "prometheus-mini", "stream": True, **asked, **parameters}


def unary(api: str, text: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """Address and body of the same request for the whole text at once."""
    body = stream_body(api, text, **parameters)
    body.pop("stream", None)
    return PATHS[api].removesuffix("_stream"), body


def text_of(api: str, answer: dict[str, Any]) -> str:
    """The text of an answer that came whole."""
    if api == "generate":
        return answer["text"]
    if api == "open_inference":
        return answer["text_output"]
    choice = answer["choices"][0]
    return choice["text"] if api == "completions" else choice["message"]["content"]


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any] | None]:
    """Events of a stream's lines; None is OpenAI's [DONE]. Anything that is no event fails."""
    blank = True
    for line in lines:
        if not line:
            blank = True
            continue
        assert blank, f"no blank line before {line!r}"
        assert line.startswith("data: "), line
        blank = False
        yield None if line == "data: [DONE]" else json.loads(line[len("data: ") :])


def put_together(api: str, events: list[dict[str, Any] | None]) -> Spoken:
    """The stream's text and end."""
    found = [event for event in events if event is not None]
    pieces, finish, error = [], None, None
    for event in found:
        if "error" in event:
            error = event["error"]
        elif api == "generate":
            pieces.append(event["text"])
            finish = event.get("finish_reason", finish)
        elif api == "open_inference":
            pieces.append(event["text_output"])
            finish = event.get("details", {}).get("finish_reason", finish)
        else:
            for choice in event["choices"]:
                pieces.append(choice["text"] if api == "completions" else choice["delta"].get("content", ""))
                finish = choice["finish_reason"] or finish
    return Spoken([piece for piece in pieces if piece], finish, error, found, None in events)


def speak(client: Any, api: str, text: str, **parameters: Any) -> Spoken:
    """Stream a text to its end over an httpx client."""
    with client.stream("POST", PATHS[api], json=stream_body(api, text, **parameters)) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        return put_together(api, list(events_of(response.iter_lines())))
