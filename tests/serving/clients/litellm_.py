"""LiteLLM, as a client of any server of OpenAI's kind and of vLLM's: ``python litellm_.py HTTP_PORT``."""

from __future__ import annotations

import asyncio
import sys

import litellm

USER = [{"role": "system", "content": "Translate."}, {"role": "user", "content": "привет, мир"}]


def provider(name: str, url: str) -> None:
    model = f"{name}/prometheus-mini"
    known = {"model": model, "api_base": url, "api_key": "none"}
    whole = litellm.completion(messages=USER, **known)
    text = whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0
    pieces = list(litellm.completion(messages=USER, stream=True, stream_options={"include_usage": True}, **known))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    long = litellm.completion(messages=USER, max_tokens=100_000, n=1, user="me", presence_penalty=0, **known)
    assert long.choices[0].message.content.startswith(text)
    number = [{"role": "user", "content": "12:30"}]
    assert litellm.completion(messages=number, **known).choices[0].message.content == "12:30"
    told = litellm.completion(messages=number, stream=True, **known)
    assert "".join(piece.choices[0].delta.content or "" for piece in told) == "12:30"
    assert asyncio.run(litellm.acompletion(messages=USER, **known)).choices[0].message.content == text


def completions(name: str, url: str) -> None:
    known = {"model": f"{name}/prometheus-mini", "api_base": url, "api_key": "none"}
    whole = litellm.text_completion(prompt="привет, мир", max_tokens=256, **known)
    assert whole.choices[0].text
    several = litellm.text_completion(prompt=["привет, мир", "2024", ""], max_tokens=256, **known)
    assert [choice.text for choice in several.choices] == [whole.choices[0].text, "2024", ""]
    pieces = litellm.text_completion(prompt="привет, мир", stream=True, max_tokens=256, **known)
    assert "".join(piece.choices[0].text or "" for piece in pieces) == whole.choices[0].text


def main(port: str) -> None:
    for base in ("v1", "openai/v1"):
        url = f"http://localhost:{port}/{base}"
        provider("openai", url)
        provider("hosted_vllm", url)
        completions("text-completion-openai", url)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
