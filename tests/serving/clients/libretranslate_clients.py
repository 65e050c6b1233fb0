"""LibreTranslate's clients libretranslatepy and deep-translator: ``python libretranslate_clients.py PORT KEY``."""

from __future__ import annotations

import sys
import urllib.error

from deep_translator import LibreTranslator
from deep_translator.exceptions import AuthorizationException
from libretranslatepy import LibreTranslateAPI

WORDS = "привет, мир"


def with_libretranslatepy(url: str, key: str) -> str:
    """A form in the body, the key in it; languages are asked for by a GET that has a body."""
    client = LibreTranslateAPI(url, api_key=key)
    assert [each["code"] for each in client.languages()] == ["ru", "en"]
    assert client.detect(WORDS) == [{"confidence": 100.0, "language": "ru"}]
    text = client.translate(WORDS, "auto", "en")
    assert text and client.translate(WORDS, "ru", "en") == text
    assert client.translate("12:30 & 5 = x+y?", "ru", "en") and client.translate("12:30", "ru", "en") == "12:30"
    for wrong, status in ((f"{key}x", 403), (None, 400)):
        try:
            LibreTranslateAPI(url, api_key=wrong).translate(WORDS, "ru", "en")
        except urllib.error.HTTPError as error:
            assert error.code == status and b'{"error":"api_key: ' in error.read()
        else:
            raise AssertionError("let in")
    return text


def with_deep_translator(url: str, key: str, text: str) -> None:
    """All of it in the address, and no body."""
    client = LibreTranslator(source="ru", target="en", api_key=key, custom_url=f"{url}/")
    assert client.translate(WORDS) == text
    assert client.translate_batch([WORDS, "12:30"]) == [text, "12:30"]
    try:
        LibreTranslator(source="ru", target="en", api_key="other", custom_url=f"{url}/").translate(WORDS)
    except AuthorizationException:
        return
    raise AssertionError("let in")


def main(port: str, key: str) -> None:
    url = f"http://localhost:{port}"
    with_deep_translator(url, key, with_libretranslatepy(url, key))
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
