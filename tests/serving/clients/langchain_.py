"""LangChain's OpenAI and ChatOpenAI, with their own defaults: ``python langchain_.py HTTP_PORT``.

``OpenAI`` asks for 256 tokens at temperature 0.7, whatever the model.
"""

from __future__ import annotations

import asyncio
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI

MODEL = "prometheus-mini"


def completions(url: str) -> None:
    llm = OpenAI(base_url=url, api_key="none", model=MODEL)
    assert (llm.max_tokens, llm.temperature) == (256, 0.7), "its defaults are others by now"
    assert isinstance(llm.invoke("привет, мир"), str)
    texts = ["привет", "2024", "", "мир"]
    result = llm.generate(texts)
    assert [one.text for (one,) in result.generations][1:3] == ["2024", ""]
    assert result.llm_output["token_usage"]["completion_tokens"] > 0
    assert len(llm.batch(texts)) == 4
    assert "".join(llm.stream("12:30")) == "12:30"
    greedy = OpenAI(base_url=url, api_key="none", model=MODEL, temperature=0)
    assert "".join(greedy.stream("привет, мир")) == greedy.invoke("привет, мир")
    two = OpenAI(base_url=url, api_key="none", model=MODEL, n=2, best_of=2, seed=3, logit_bias=None, logprobs=2)
    assert len(two.generate(["привет"]).generations[0]) == 2
    assert two.generate(["7"]).generations[0][1].text == "7"
    uncut = OpenAI(base_url=url, api_key="none", model=MODEL, temperature=0, extra_body={"split": False})
    found = uncut.generate(["мир", "a" * 500]).generations
    assert found[0][0].text == uncut.invoke("мир")
    assert (found[1][0].text, found[1][0].generation_info["finish_reason"]) == ("", "error")


def chat(url: str) -> None:
    llm = ChatOpenAI(base_url=url, api_key="none", model=MODEL)
    whole = llm.invoke("привет, мир")
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] in ("stop", "length")
    history = [SystemMessage("Translate."), HumanMessage("привет, мир")]
    assert llm.invoke(history).content == whole.content
    pieces = list(llm.stream("привет, мир"))
    assert "".join(piece.content for piece in pieces) == whole.content
    counted = list(llm.stream("привет, мир", stream_usage=True))
    usage = [piece.usage_metadata for piece in counted if piece.usage_metadata]
    assert usage and usage[-1]["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert [one.content for one in llm.batch(["7", "♪"])] == ["7", "♪"]
    long = ChatOpenAI(base_url=url, api_key="none", model=MODEL, max_tokens=100_000, temperature=0, timeout=30)
    assert long.invoke("привет, мир").response_metadata["finish_reason"] in ("stop", "length")
    told = ChatOpenAI(base_url=url, api_key="none", model=MODEL, logprobs=True, top_logprobs=3).invoke("привет")
    assert told.response_metadata["logprobs"]["content"]
    hinted = ChatOpenAI(base_url=url, api_key="none", model=MODEL, reasoning_effort="low", service_tier="flex")
    assert hinted.invoke("привет, мир").content == whole.content
    assert asyncio.run(llm.ainvoke("привет, мир")).content == whole.content


def main(port: str) -> None:
    for base in ("v1", "openai/v1"):
        completions(f"http://localhost:{port}/{base}")
        chat(f"http://localhost:{port}/{base}")
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
