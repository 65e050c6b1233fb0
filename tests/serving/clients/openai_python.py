"""OpenAI's own Python client, plain and asynchronous: ``python openai_python.py HTTP_PORT``.

Holds for any bundle that translates between Russian and English.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import httpx
import openai

MODEL = "prometheus-mini"
EN = {"target": "en"}
USER = [{"role": "system", "content": "You are a translator."}, {"role": "user", "content": "привет, мир"}]


def refused(kind, words, param, call):
    try:
        call()
    except kind as error:
        assert words in error.message, error.message
        assert error.param == param, error.param
        assert error.request_id is None or error.request_id
        return error
    raise AssertionError("not refused")


def completions(client):
    whole = client.completions.create(model=MODEL, prompt="привет, мир", max_tokens=9, extra_body=EN)
    assert whole.object == "text_completion"
    assert whole.usage.prompt_tokens > 2
    assert 1 <= whole.usage.completion_tokens <= 9
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    (choice,) = whole.choices
    assert choice.finish_reason in ("length", "stop")
    told = client.completions.create(model=MODEL, prompt="привет, мир", max_tokens=9)  # the script tells the target
    assert told.choices[0].text == choice.text

    pieces = list(client.completions.create(model=MODEL, prompt="привет, мир", max_tokens=9, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == choice.text
    assert [piece.choices[0].finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + [choice.finish_reason]
    assert {piece.id for piece in pieces} == {pieces[0].id} != {whole.id}

    many = client.completions.create(
        model=MODEL, prompt=["привет", "мир"], n=3, temperature=1.5, seed=4, max_tokens=8, logprobs=2
    )
    assert [choice.index for choice in many.choices] == list(range(6))
    assert len({choice.text for choice in many.choices}) > 2
    apart = [client.completions.create(model=MODEL, prompt=text, max_tokens=1) for text in ("привет", "мир")]
    assert many.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in apart)  # not once for each of the n
    again = client.completions.create(model=MODEL, prompt="мир", n=3, temperature=1.5, seed=4, max_tokens=8)
    assert [choice.text for choice in again.choices] == [choice.text for choice in many.choices[3:]]
    for drawn in many.choices:
        logprobs = drawn.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
        for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
            if token.startswith("bytes:"):
                break  # longer than what it stands for
            assert drawn.text[offset : offset + len(token)] == token
        assert all(value <= 0 for value in logprobs.token_logprobs)
        assert all(1 <= len(top) <= 2 for top in logprobs.top_logprobs)

    end = choice.text[len(choice.text) // 2]
    stopped = client.completions.create(
        model=MODEL, prompt="привет, мир", max_tokens=9, stop=[end], frequency_penalty=0, top_p=1, extra_body=EN
    )
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == choice.text[: choice.text.index(end)]


def chat(client):
    whole = client.chat.completions.create(model=MODEL, messages=USER, max_completion_tokens=9, extra_body=EN)
    assert whole.object == "chat.completion"
    message = whole.choices[0].message
    assert message.role == "assistant"
    parts = [{"role": "user", "content": [{"type": "text", "text": "привет, "}, {"type": "text", "text": "мир"}]}]
    again = client.chat.completions.create(model=MODEL, messages=parts, max_tokens=9, extra_body=EN)
    assert again.choices[0].message.content == message.content

    pieces = list(
        client.chat.completions.create(
            model=MODEL,
            messages=USER,
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True,
            top_logprobs=3,
        )
    )
    *told, counts = pieces
    assert told[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in told) == message.content
    assert counts.choices == []
    assert counts.usage == whole.usage
    assert all(piece.usage is None for piece in told)
    with_logprobs = [piece.choices[0].logprobs for piece in told if piece.choices[0].logprobs is not None]
    tokens = [token for logprobs in with_logprobs for token in logprobs.content]  # an end by itself has none
    assert len(tokens) == whole.usage.completion_tokens
    text = b"".join(bytes(token.bytes) for token in tokens).decode("utf-8", "replace")
    assert text.removeprefix(" ") == message.content  # a tokenizer may begin each text with a space of its own
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= token.top_logprobs[0].logprob <= 0

    with client.chat.completions.stream(model=MODEL, messages=USER, max_tokens=9) as stream:
        told = [event.delta for event in stream if event.type == "content.delta"]
    assert "".join(told) == message.content


def errors(client):
    def completion(**fields):
        return lambda: client.completions.create(**{"model": MODEL, "prompt": "привет", **fields})

    def chatted(**fields):
        return lambda: client.chat.completions.create(**{"model": MODEL, "messages": USER, **fields})

    bad = openai.BadRequestError
    assert refused(openai.NotFoundError, "'other' is not served", "model", completion(model="other")).code == (
        "model_not_found"
    )
    refused(openai.NotFoundError, "'other' is not served", "model", lambda: client.models.retrieve("other"))
    refused(bad, "must be between 1 and", "max_tokens", completion(max_tokens=0))
    refused(bad, "must be between 1 and", "max_completion_tokens", chatted(max_completion_tokens=-1))
    refused(bad, "cannot be honoured", "presence_penalty", chatted(presence_penalty=0.5))
    limit = httpx.get(str(client.base_url.join("/info")), trust_env=False).json()["limits"]["max_chars"]
    long = "word " * (limit // 5 + 1)
    refused(bad, f"more than {limit} in one request", "prompt", completion(prompt=long, extra_body=EN))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    refused(bad, "cannot be honoured", "tools", chatted(tools=tools))
    refused(bad, "at most 10", "temperature", chatted(temperature=11, stream=True))
    refused(bad, "the last message must be the user's", "messages", chatted(messages=[USER[0]]))
    refused(openai.NotFoundError, "no such address", None, lambda: client.embeddings.create(model=MODEL, input="a"))


async def asynchronous(port):
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/openai/v1", api_key="none") as client:
        assert [model.id async for model in client.models.list()] == [MODEL]

        async def streamed(length):
            stream = await client.chat.completions.create(
                model=MODEL, messages=USER, max_tokens=length, temperature=0, stream=True
            )
            return "".join([piece.choices[0].delta.content or "" async for piece in stream])

        texts = await asyncio.gather(*(streamed(length) for length in range(1, 33)))
        whole = texts[-1]
        assert all(whole.startswith(text.removesuffix("\ufffd")) for text in texts)  # a letter may be cut in two
        assert all(len(shorter) <= len(longer) for shorter, longer in itertools.pairwise(texts))
        empty = await client.completions.create(model=MODEL, prompt="")
        assert (empty.choices[0].text, empty.choices[0].finish_reason, empty.usage.total_tokens) == ("", "stop", 0)


def main(port):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/openai/v1", api_key="none", max_retries=0)
    assert client.models.retrieve(MODEL).owned_by == "prometheus-mini"
    completions(client)
    chat(client)
    errors(client)
    asyncio.run(asynchronous(port))
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
