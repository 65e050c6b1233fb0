"""DeepL's text translation of the real server process: forms, the key, and what is refused rather than left out."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.helpers.servers import TOKEN, Server

ASKED: dict[str, Any] = {"text": ["привет"], "target_lang": "EN"}


def test_json_and_forms_say_the_same(client: httpx.Client) -> None:
    text = client.post("/generate", json={"prompt": "привет", "target": "en"}).json()["text"]
    expected = {"translations": [{"detected_source_language": "RU", "text": text}]}
    for answer in (
        client.post("/v2/translate", json=ASKED),
        client.post("/v2/translate", json={**ASKED, "text": "привет", "source_lang": "ru", "glossary_id": None}),
        client.post("/v2/translate", data={**ASKED, "preserve_formatting": "0", "formality": "default"}),
        client.post("/v2/translate", data={"text": "привет", "target_lang": "en-GB", "tag_handling": "xml"}),
    ):
        assert (answer.status_code, answer.json()) == (200, expected)
    several = client.post("/v2/translate", data={"text": ["привет", "12:30"], "target_lang": "EN"}).json()
    assert [one["text"] for one in several["translations"]] == [text, "12:30"]
    billed = client.post("/v2/translate", data={**ASKED, "show_billed_characters": "1"}).json()["translations"][0]
    assert billed["billed_characters"] == 6


def test_html_keeps_its_tags(client: httpx.Client) -> None:
    asked = {"text": ["<p>привет</p>", "<i>1</i>"], "target_lang": "EN", "tag_handling": "html", "source_lang": "RU"}
    first, second = (one["text"] for one in client.post("/v2/translate", json=asked).json()["translations"])
    assert re.fullmatch("<p>[^<>]+</p>", first, re.S) and second == "<i>1</i>"
    refused = client.post("/v2/translate", json={**asked, "ignore_tags": ["i"]})
    assert 'mark what is not to be translated translate="no"' in refused.json()["message"]


def test_beside_the_open_inference_protocol(client: httpx.Client) -> None:
    assert client.get("/v2/models").json() == {"models": ["prometheus-mini"]}
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/languages", params={"type": "target"}).json()[1]["language"] == "EN-GB"
    assert client.request("GET", "/v2/languages", data={"type": "source"}).json()[1] == {
        "language": "EN",
        "name": "English",
    }
    before = client.get("/v2/usage").json()["character_count"]
    assert client.post("/v2/translate", json=ASKED).status_code == 200
    assert client.get("/v2/usage").json()["character_count"] == before + 6


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no text": ({"target_lang": "EN"}, "text: is missing"),
    "empty list": ({**ASKED, "text": []}, "text: is missing"),
    "nine texts": ({**ASKED, "text": ["а"] * 9}, "text: 9 texts in one request; at most 8"),
    "a number": ({**ASKED, "text": [1]}, "text: must be a string or a list of strings"),
    "no target": ({"text": ["а"]}, "target_lang: is missing"),
    "target": ({**ASKED, "target_lang": "DE"}, "target_lang: 'DE' is not supported; this model has ru, en"),
    "source": ({**ASKED, "source_lang": "JA"}, "source_lang: 'JA' is not supported"),
    "glossary": ({**ASKED, "glossary_id": "a-b"}, "glossary_id: is kept by DeepL and not by this server"),
    "glossaries": ({**ASKED, "glossary_ids": ["a"]}, "glossary_ids: is kept by DeepL"),
    "style": ({**ASKED, "style_id": "a"}, "style_id: is kept by DeepL"),
    "formality": ({**ASKED, "formality": "less"}, "formality: this model has no levels of formality"),
    "formatting": ({**ASKED, "preserve_formatting": True}, "preserve_formatting: cannot be honoured"),
    "context": ({**ASKED, "context": "a letter"}, "context: cannot be honoured"),
    "lines": (
        {**ASKED, "text": ["а\nб"], "split_sentences": "nonewlines"},
        "split_sentences: nonewlines needs texts of",
    ),
    "split": ({**ASKED, "split_sentences": "2"}, "split_sentences: must be 0 or 1 or nonewlines"),
    "xml": ({**ASKED, "text": ["<a>б</a>"], "tag_handling": "xml"}, "tag_handling: xml cannot be honoured"),
    "tags": ({**ASKED, "tag_handling": "tags"}, "tag_handling: must be html or xml"),
    "model": ({**ASKED, "model_type": "quality_optimized"}, "model_type: must be latency_optimized or"),
    "unknown": ({**ASKED, "target": "EN"}, "target: unknown field; known: text, target_lang"),
    "null": ({**ASKED, "text": None}, "text: is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(client: httpx.Client, case: str) -> None:
    body, words = BAD[case]
    answer = client.post("/v2/translate", json=body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["message"]
    assert re.match(words, answer.json()["message"]), answer.text


def test_a_text_in_fault_fails_the_call(client: httpx.Client) -> None:
    answer = client.post("/v2/translate", json={**ASKED, "text": ["привет", "а" * 500], "split_sentences": "0"})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("text[1]: has 5")


def test_the_key(guarded: Server) -> None:
    def call(authorization: str | None) -> httpx.Response:
        headers = {} if authorization is None else {"authorization": authorization}
        return httpx.post(f"{guarded.url}/v2/translate", json=ASKED, headers=headers, timeout=60, verify=False)

    for right in (f"DeepL-Auth-Key {TOKEN}", f"deepl-auth-key {TOKEN}", f"Bearer {TOKEN}"):
        assert call(right).status_code == 200
    for wrong in (None, "", "DeepL-Auth-Key", f"DeepL-Auth-Key {TOKEN}x", f"Basic {TOKEN}", TOKEN):
        answer = call(wrong)
        assert (answer.status_code, list(answer.json())) == (403, ["message"]), wrong
        assert TOKEN not in answer.text
    assert guarded.get("/v2/languages").status_code == guarded.get("/v2/usage").status_code == 403
    assert TOKEN not in guarded.log.read_text("utf-8")
    answer = httpx.get(
        f"{guarded.url}/v2/translate", headers={"authorization": f"DeepL-Auth-Key {TOKEN}"}, verify=False
    )
    assert (answer.status_code, list(answer.json())) == (405, ["message"])
