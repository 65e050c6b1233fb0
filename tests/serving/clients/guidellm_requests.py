"""What GuideLLM 0.8.1 sends and reads: ``python guidellm_requests.py HTTP_PORT``.

GuideLLM itself brings torch, transformers and datasets, gigabytes for a dozen requests; these are its own, after its
``backends/openai/http.py`` and ``request_handlers.py``, each as its ``openai_http`` backend makes it by default. An
answer of a known length (``output_tokens_count``) is asked for by ``ignore_eos`` and a ``stop`` of null.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

OPTIONS = {"include_usage": True, "continuous_usage_stats": True}


def streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, int]:
    """Text and output tokens as its handlers find them, in the last usage that a chunk had."""
    text, usage, done = [], {}, False
    with client.stream("POST", path, json=body) as stream:
        stream.raise_for_status()
        for line in stream.iter_lines():
            if not line:
                continue
            assert line.startswith("data:"), line
            if line.removeprefix("data:").strip() == "[DONE]":
                done = True
                break
            data = json.loads(line.removeprefix("data:"))
            assert not data.get("error"), data
            usage = data.get("usage") or usage
            for choice in data["choices"]:
                text.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
                assert usage["completion_tokens"] >= 0, "continuous_usage_stats"
    assert done
    return "".join(text), usage["completion_tokens"]


def main(port: str) -> None:
    for target in (f"http://127.0.0.1:{port}/openai", f"http://127.0.0.1:{port}"):
        with httpx.Client(timeout=60) as client:
            client.get(f"{target}/health").raise_for_status()
            model = client.get(f"{target}/v1/models").raise_for_status().json()["data"][0]["id"]
            known = {"model": model, "stream": True, "stream_options": OPTIONS}
            completions, chat = f"{target}/v1/completions", f"{target}/v1/chat/completions"
            for text in ("привет, мир", "hello"):
                messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
                length = {"stop": None, "ignore_eos": True}
                whole = streamed(client, completions, {**known, "prompt": text})
                assert streamed(client, chat, {**known, "messages": messages}) == whole
                told = streamed(client, completions, {**known, "prompt": text, "max_tokens": 23, **length})
                assert told[1] == 23
                found = streamed(client, chat, {**known, "messages": messages, "max_completion_tokens": 23, **length})
                assert found == told
            assert streamed(client, completions, {**known, "prompt": "2024"}) == ("2024", 0)
            body = {"model": model, "prompt": "hello", "max_tokens": 1000}
            answer = client.post(completions, json=body).raise_for_status().json()
            assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
