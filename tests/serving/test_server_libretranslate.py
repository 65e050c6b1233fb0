"""LibreTranslate's API of the real server process: every form of a call, the key, files, and every bad input."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from serving.errors import NotFound, Overloaded
from serving.rest.documents import batches, translated_name
from serving.rest.downloads import Downloads
from tests.helpers.bundles import tiny_bundle
from tests.helpers.servers import TOKEN, Server, start_server, wait_until

ASKED = {"q": "привет", "source": "ru", "target": "en"}
KEY = {"api_key": TOKEN}


def generated(client: httpx.Client, text: str, target: str = "en") -> str:
    """The same text by our own address."""
    return client.post("/generate", json={"prompt": text, "target": target}).json()["text"]


def test_json_forms_and_the_address_say_the_same(client: httpx.Client) -> None:
    expected = {"translatedText": generated(client, "привет")}
    text = json.dumps(ASKED)
    for answer in (
        client.post("/translate", json=ASKED),
        client.post("/translate", json={**ASKED, "api_key": "", "format": "text", "alternatives": 0, "secret": "x"}),
        client.post("/translate", content=text),
        client.post("/translate", content=text, headers={"content-type": "application/x-www-form-urlencoded"}),
        client.post("/translate", content=gzip.compress(text.encode()), headers={"content-encoding": "gzip"}),
        client.post("/translate", data=ASKED),
        client.post("/translate", files={name: (None, value) for name, value in ASKED.items()}),
        client.post("/translate", params=ASKED),
        client.post("/translate", data={"q": "привет"}, params={"source": "ru", "target": "EN-us"}),
    ):
        assert (answer.status_code, answer.json()) == (200, expected)


def test_several_texts_and_what_they_are_in(client: httpx.Client) -> None:
    texts = ["привет", "12:30", "", "hello"]
    answer = client.post("/translate", json={"q": texts, "source": "auto", "target": "en"}).json()
    assert answer["translatedText"] == [generated(client, "привет"), "12:30", "", "hello"]
    assert [one["language"] for one in answer["detectedLanguage"]] == ["ru", "ru", "ru", "en"]
    assert [one["confidence"] for one in answer["detectedLanguage"]] == [100.0, 0.0, 0.0, 100.0]
    assert client.post("/translate", data={**ASKED, "q": texts[:2]}).json()["translatedText"][1] == "12:30"
    assert client.post("/detect", json={"q": "Alice сказала"}).json() == [
        {"confidence": 58.3, "language": "ru"},
        {"confidence": 41.7, "language": "en"},
    ]


def test_alternatives_differ_and_stay_the_same(client: httpx.Client) -> None:
    asked = {"q": ["привет", "мир"], "source": "ru", "target": "en", "alternatives": 3}
    one, again = (client.post("/translate", json=asked).json() for _ in range(2))
    assert one == again
    for text, others in zip(one["translatedText"], one["alternatives"], strict=True):
        assert 1 <= len(others) <= 3
        assert len({text, *others}) == 1 + len(others)
    single = client.post("/translate", data={**ASKED, "alternatives": "1"}).json()
    assert len(single["alternatives"]) == 1
    assert "alternatives" not in client.post("/translate", json=ASKED).json()


def test_our_own_parameters_stand_beside_theirs(client: httpx.Client) -> None:
    answer = client.post("/translate", json={**ASKED, "max_tokens": 3, "author": "guide"}).json()
    assert answer["translatedText"]
    assert len(answer["translatedText"]) < len(client.post("/translate", json=ASKED).json()["translatedText"])


def test_html_keeps_its_tags(client: httpx.Client) -> None:
    said = client.post("/translate", json={**ASKED, "q": '<p class="a">привет</p>\n<br>', "format": "html"}).json()
    assert re.fullmatch('<p class="a">[^<>]+</p>\n<br>', said["translatedText"], re.S), said
    plain = client.post("/translate", json={**ASKED, "q": "<p>12</p>", "format": "html"}).json()
    assert plain["translatedText"] == "<p>12</p>"


def test_a_glossary_is_a_field_and_in_a_form_its_json(client: httpx.Client) -> None:
    terms = {"мир": "WORLD"}
    one = client.post("/translate", json={**ASKED, "q": "мир", "glossary": terms})
    two = client.post("/translate", data={**ASKED, "q": "мир", "glossary": json.dumps(terms)})
    assert one.status_code == two.status_code == 200
    assert one.json() == two.json() and "WORLD" in one.json()["translatedText"]


def test_languages_and_settings(client: httpx.Client) -> None:
    assert client.get("/languages").json() == [
        {"code": "ru", "name": "Russian", "targets": ["ru", "en"]},
        {"code": "en", "name": "English", "targets": ["ru", "en"]},
    ]
    settings = client.get("/frontend/settings").json()
    assert settings["charLimit"] == client.get("/info").json()["limits"].get("max_chars", settings["charLimit"])
    assert (settings["keyRequired"], settings["suggestions"], settings["filesTranslation"]) == (False, False, True)
    assert settings["language"]["source"]["code"] == "auto"
    assert client.get("/health").json()["status"] == "ok"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no q": ({"source": "ru", "target": "en"}, "q: is missing"),
    "empty q": ({**ASKED, "q": ""}, "q: is missing"),
    "empty list": ({**ASKED, "q": []}, "q: is missing"),
    "q a number": ({**ASKED, "q": 5}, "q: must be a string or a list of strings, not 5"),
    "q a list of lists": ({**ASKED, "q": [["a"]]}, "q: must be a string or a list"),
    "nine texts": ({**ASKED, "q": ["а"] * 9}, "q: 9 texts in one request; at most 8"),
    "alternatives of many": ({**ASKED, "q": ["а"] * 8, "alternatives": 8}, "alternatives: 8 texts for each of 8"),
    "no source": ({"q": "а", "target": "en"}, "source: is missing"),
    "no target": ({"q": "а", "source": "ru"}, "target: is missing"),
    "source unknown": ({**ASKED, "source": "de"}, "source: 'de' is not supported; this model has ru, en"),
    "target auto": ({**ASKED, "target": "auto"}, "target: 'auto' is not supported"),
    "target a list": ({**ASKED, "target": ["en"]}, "target: must be a string"),
    "format": ({**ASKED, "format": "xml"}, "format: must be text or html"),
    "alternatives": ({**ASKED, "alternatives": "many"}, "alternatives: must be an integer"),
    "too many alternatives": ({**ASKED, "alternatives": 9}, "alternatives: must be between 0 and 8"),
    "unknown field": ({**ASKED, "langpair": "ru|en"}, "langpair: unknown field; known: q, source, target"),
    "author": ({**ASKED, "author": "nobody"}, "author.*nobody"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(client: httpx.Client, case: str) -> None:
    body, words = BAD[case]
    answer = client.post("/translate", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert re.search(words, answer.json()["error"]), answer.text


RUBBISH: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "", "q: is missing"),
    "a list": (b"[1]", "application/json", "body: must be a JSON object"),
    "deep": (b'{"q": ' + b"[" * 60_000, "application/json", "body: is not valid UTF-8 JSON"),
    "deep and whole": (b'{"q": ' + b"[" * 900 + b"]" * 900 + b"}", "application/json", "q: must be a string"),
    "not JSON": (b"q=a", "application/json", "body: is not valid UTF-8 JSON"),
    "not UTF-8": (b"q=%ff&source=ru&target=en", "", "body: is not UTF-8"),
    "twice": (b"q=a&source=ru&source=en&target=en", "", "source: is given 2 times; send it once"),
    "many fields": (b"a=&" * 20_000, "", "body: has more than 72 fields"),
    "a form of nothing known": (b"q=a", "text/plain", "content-type: 'text/plain' is not understood"),
    "no boundary": (b"--a", "multipart/form-data", "body: is no multipart/form-data"),
    "wrong boundary": (
        b"--a\r\n\r\n",
        "multipart/form-data; boundary=b",
        "body: is no multipart/form-data|q: is missing",
    ),
    "many parts": (
        b'--b\r\nContent-Disposition: form-data; name="q"\r\n\r\n\r\n' * 900 + b"--b--",
        "multipart/form-data; boundary=b",
        "body: is no multipart/form-data that can be read: Too many fields",
    ),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_rubbish(client: httpx.Client, case: str) -> None:
    body, kind, words = RUBBISH[case]
    answer = client.post("/translate", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400, answer.text
    assert re.search(words, answer.json()["error"]), answer.text
    assert len(answer.text) < 500


@pytest.mark.parametrize("path", ["/translate", "/detect", "/translate_file"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_a_form_of_megabytes_is_refused_and_not_kept(client: httpx.Client, path: str, kind: str) -> None:
    parts = (b"q=" + b"a" * 1_000_000 for _ in range(3))
    answer = client.post(path, content=parts, headers={"content-type": kind})
    assert (answer.status_code, "65536" in answer.json()["error"]) == (413, True)


def test_what_body_and_address_both_say_is_refused(client: httpx.Client) -> None:
    answer = client.post("/translate", json=ASKED, params={"target": "ru"})
    assert answer.json()["error"] == "target: is given in the body and in the address; send it once"


def test_a_text_in_fault_fails_the_call(client: httpx.Client) -> None:
    """There is no place for its error beside the others' texts, and an empty text would be a loss without a word."""
    answer = client.post("/translate", json={**ASKED, "q": ["привет", "а" * 500], "split": False})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("q[1]: has 5")


# -- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_looked_for_where_clients_put_it(guarded: Server) -> None:
    def call(**sent: Any) -> httpx.Response:
        return httpx.post(f"{guarded.url}/translate", timeout=60, verify=False, **sent)

    header = {"authorization": f"Bearer {TOKEN}"}
    for right in (
        {"json": {**ASKED, **KEY}},
        {"data": {**ASKED, **KEY}},
        {"params": {**ASKED, **KEY}},
        {"json": ASKED, "params": KEY},
        {"files": {name: (None, value) for name, value in {**ASKED, **KEY}.items()}},
        {"json": ASKED, "headers": header},
        {"json": {**ASKED, "api_key": "of somebody else"}, "headers": header},
    ):
        assert call(**right).status_code == 200, right
    for wrong, status in (
        ({"json": ASKED}, 400),
        ({"json": {**ASKED, "api_key": ""}}, 400),
        ({"json": {**ASKED, "api_key": None}}, 400),
        ({"json": {**ASKED, "api_key": "other"}}, 403),
        ({"json": {**ASKED, "api_key": [TOKEN]}}, 403),
        ({"json": {**ASKED, "api_key": {"a": 1}}}, 403),
        ({"data": {**ASKED, "api_key": "тайна"}}, 403),
        ({"params": {**ASKED, "api_key": f"{TOKEN}x"}}, 403),
        ({"json": {**ASKED, **KEY}, "headers": {"authorization": "Bearer other"}}, 403),
        ({"json": {**ASKED, **KEY}, "headers": {"authorization": ""}}, 400),
        ({"json": {"q": "а", "api_key": "other", "nonsense": 1}}, 403),
    ):
        answer = call(**wrong)
        assert answer.status_code == status, (wrong, answer.text)
        assert list(answer.json()) == ["error"] and TOKEN not in answer.text
    assert "Unauthorized" in guarded.get("/metrics").text
    log = guarded.log.read_text("utf-8")
    assert TOKEN not in log and "api_key=" not in log and "other" not in log


def test_other_addresses_take_no_api_key(guarded: Server) -> None:
    for path in ("/generate", "/v1/completions", "/v2/translate", "/v2/usage", "/info"):
        assert httpx.post(f"{guarded.url}{path}", params=KEY, json=KEY, verify=False).status_code in (401, 403), path
    for path in ("/languages", "/frontend/settings"):
        assert guarded.get(path).status_code == 200
    assert guarded.get("/frontend/settings").json()["keyRequired"] is True


# -- files -----------------------------------------------------------------------------------------------------------


def send_file(server: Server, name: str, content: str | bytes, **fields: str) -> httpx.Response:
    data = {"source": "ru", "target": "en", **fields}
    files = {"file": (name, content if isinstance(content, bytes) else content.encode())}
    return httpx.post(f"{server.url}/translate_file", data=data, files=files, timeout=60, verify=False)


def test_a_file_comes_back_with_its_texts_translated(server: Server, client: httpx.Client) -> None:
    cues = "1\r\n00:00:01,000 --> 00:00:02,000\r\n{}\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\n12:30\r\n"
    answer = send_file(server, "фильм.srt", cues.format("привет"))
    address = answer.json()["translatedFileUrl"]
    assert address.startswith(f"{server.url}/download_file/")
    found = httpx.get(address, verify=False)
    assert found.content.decode().replace("\x00", "") == cues.format(generated(client, "привет")).replace("\x00", "")
    assert unquote(found.headers["content-disposition"]) == "attachment; filename*=UTF-8''фильм_en.srt"
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-security-policy"] == "default-src 'none'; sandbox"
    secret = address.rsplit("/", 1)[1].split(".")[0]
    wait_until(lambda: "GET /download_file/..." in server.log.read_text("utf-8"), "the line of the download")
    assert secret not in server.log.read_text("utf-8")
    line = server.requests("/translate_file")[-1]
    assert line["status"] == 200 and line["prompts"] == 1


def test_a_file_of_more_texts_than_a_call_takes(server: Server) -> None:
    lines = [f"привет {'аб'[i % 2]}" for i in range(21)]
    answer = send_file(server, "a.txt", "\n".join(lines), source="auto")
    text = httpx.get(answer.json()["translatedFileUrl"], verify=False).text
    assert answer.status_code == 200 and text.count("\n") >= 20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.exe", "а", "file: a.exe: not a type that is translated; those are .txt"),
        ("a", "а", "file: a: not a type"),
        ("a.srt", "no cue", "file: a.srt:1: no cue has times"),
        ("a.txt", b"\xff\xfe", "file: a.txt"),
    ],
)
def test_a_file_that_cannot_be_read(server: Server, name: str, content: str | bytes, words: str) -> None:
    answer = send_file(server, name, content)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(words), answer.text


def test_what_is_no_file(client: httpx.Client) -> None:
    languages = {"source": "ru", "target": "en"}
    for sent in (
        {"data": languages, "files": {"other": ("a.txt", b"a")}},
        {"data": {**languages, "file": "a"}},
        {"json": {**languages, "file": "a"}},
        {"data": languages},
    ):
        answer = client.post("/translate_file", **sent)
        assert answer.status_code == 400, answer.text
        assert re.match("file: |other: unknown field", answer.json()["error"]), answer.text
    two = [("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))]
    assert "Too many files" in client.post("/translate_file", data=languages, files=two).json()["error"]


def test_a_file_needs_the_key_and_its_address_is_the_key_to_it(guarded: Server) -> None:
    assert send_file(guarded, "a.txt", "привет").status_code == 400
    assert send_file(guarded, "a.txt", "привет", api_key="other").status_code == 403
    address = send_file(guarded, "../../etc/п\u0007<i>.txt", "привет", **KEY).json()["translatedFileUrl"]
    assert httpx.get(address, verify=False).status_code == 200
    for other in (address.replace("/download_file/", "/download_file/x"), f"{guarded.url}/download_file/../info"):
        assert httpx.get(other, verify=False).status_code in (401, 404)


def test_a_file_has_the_time_of_one_request(slow: Path, tmp_path: Path) -> None:
    with start_server(slow, tmp_path / "log", "--request_timeout", "0.3") as server:
        answer = send_file(server, "a.txt", "привет, мир\n" * 500)
        assert answer.status_code == 504 and list(answer.json()) == ["error"]
        wait_until(lambda: not server.engine()["running"], "nothing of it runs any more")
        assert "/download_file/" not in answer.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.txt", "a_en.txt"),
        ("C:\\x\\письмо.md", "письмо_en.md"),
        ("../a\r\nb.po", "a__b_en.po"),
        (f"{'a' * 300}.txt", ""),
    ],
)
def test_names_of_files(name: str, said: str) -> None:
    assert translated_name(name, "en") == (said or f"{'a' * 100}_en.txt")


def test_files_are_kept_for_a_while_and_no_more_than_fit() -> None:
    async def keep() -> None:
        downloads = Downloads(seconds=0.01, limit=100)
        name = downloads.keep("a_en.txt", b"x" * 90)
        assert downloads.get(name).content == b"x" * 90
        with pytest.raises(Overloaded, match="90 bytes of translated files wait"):
            downloads.keep("b.txt", b"y" * 11)
        while True:
            try:
                downloads.get(name)
            except NotFound:
                break
            await asyncio.sleep(0)
        assert downloads.get(downloads.keep("b.txt", b"y" * 100)).name == "b.txt"

    asyncio.run(asyncio.wait_for(keep(), 60))


def test_texts_of_a_file_are_asked_for_in_groups() -> None:
    assert list(batches(["a"] * 5, 2, 100)) == [["a", "a"], ["a", "a"], ["a"]]
    assert list(batches(["aaa", "bb", "c", "dddd"], 9, 3)) == [["aaa"], ["bb", "c"], ["dddd"]]
    assert list(batches([], 9, 3)) == []


# -- other models ----------------------------------------------------------------------------------------------------


def test_a_model_that_continues_texts_says_so(tmp_path: Any) -> None:
    with start_server(tiny_bundle(tmp_path / "bundle", "decoder", task="text"), tmp_path / "log") as server:
        assert server.get("/languages").json() == []
        for path, body in (("/translate", ASKED), ("/v2/translate", {"text": ["a"], "target_lang": "EN"})):
            answer = server.post(path, body)
            assert answer.status_code == 501, answer.text
            assert "continues texts and translates none" in answer.text
