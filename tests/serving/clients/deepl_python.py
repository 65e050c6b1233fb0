"""DeepL's own client: ``python deepl_python.py HTTP_PORT KEY``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import deepl

WORDS = "привет, мир"


def refused(call: Callable[[], Any], kind: type[Exception], *words: str) -> None:
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"not refused: {words}")


def main(port: str, key: str) -> None:
    url = f"http://localhost:{port}"
    client = deepl.DeepLClient(key, server_url=url)
    one = client.translate_text(WORDS, target_lang="EN-GB")
    assert one.text and (one.detected_source_lang, one.billed_characters) == ("RU", len(WORDS))
    assert client.translate_text(WORDS, source_lang="ru", target_lang="en-us").text == one.text
    several = client.translate_text([WORDS, "12:30", "hello"], target_lang="RU", model_type="latency_optimized")
    assert several[1].text == "12:30" and [each.detected_source_lang for each in several] == ["RU", "EN", "EN"]
    assert several[0].model_type_used == "latency_optimized"
    assert client.translate_text(WORDS, target_lang="EN-GB", split_sentences="0", formality="prefer_more").text
    assert client.translate_text(WORDS, target_lang="EN-GB", tag_handling="xml", ignore_tags=["x"]).text == one.text
    assert client.translate_text(WORDS, target_lang="EN-GB", extra_body_parameters={"max_tokens": 2}).text != one.text

    assert [(each.code, each.name) for each in client.get_source_languages()] == [("RU", "Russian"), ("EN", "English")]
    targets = client.get_target_languages()
    assert [each.code for each in targets] == ["RU", "EN-GB", "EN-US"]
    assert not any(each.supports_formality for each in targets)
    usage = client.get_usage()
    assert usage.character.count >= 4 * len(WORDS) and not usage.any_limit_reached

    def asking(**more: Any) -> Callable[[], Any]:
        return lambda: client.translate_text(WORDS, **{"source_lang": "RU", "target_lang": "EN-GB", **more})

    refused(asking(glossary="abc"), deepl.DeepLException, "Bad request", "glossary_id", "not by this server")
    refused(asking(formality="more"), deepl.DeepLException, "formality", "no levels")
    refused(asking(preserve_formatting=True), deepl.DeepLException, "preserve_formatting", "cannot be honoured")
    refused(asking(context="a letter"), deepl.DeepLException, "context", "cannot be honoured")
    refused(asking(target_lang="DE"), deepl.DeepLException, "target_lang", "'DE' is not supported", "ru, en")
    wrong = deepl.DeepLClient(f"{key}x", server_url=url)
    refused(lambda: wrong.translate_text(WORDS, target_lang="EN-GB"), deepl.AuthorizationException, "not the right one")
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
