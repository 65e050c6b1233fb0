"""The playground page in headless Chromium, against the real server: what a person sees, types and clicks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.helpers.browser import CTRL, Browser
from tests.helpers.bundles import tiny_bundle
from tests.helpers.playground import ALERT, DONE, READY, ask, visit, write
from tests.helpers.servers import ROOT, Server, start_server, wait_until

EVENTS = "text/event-stream"
TOKEN = "a-secret-of-this-test"
HOSTILE = "<img src=x onerror=alert(1)>"
PHONE: dict[str, Any] = {"width": 390, "height": 844, "mobile": True}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Answers of 16,384 tokens, which take many seconds."""
    folder = tmp_path_factory.mktemp("long")
    bundle = tiny_bundle(folder / "bundle", "seq2seq", max_positions=16384, decoder_layers=16, d_ff=512)
    with start_server(bundle, folder / "log", "--slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that continues text, behind an access token, with a name that means harm."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN)
    bundle = tiny_bundle(folder / "bundle", "decoder", task="text")
    options = ["--token_file", str(folder / "token"), "--model_name", HOSTILE]
    with start_server(bundle, folder / "log", *options) as running:
        yield running


def running(server: Server) -> int:
    return server.get("/health").json()["engine"]["running"]


def test_the_page_is_kept_and_guarded_by_its_headers(server: Server) -> None:
    page = server.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    again = httpx.get(f"{server.url}/", headers={"if-none-match": f'"other", W/{page.headers["etag"]}'}, verify=False)
    assert (again.status_code, again.content) == (304, b"")
    head = httpx.head(f"{server.url}/", verify=False)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(page.content)))


@pytest.mark.parametrize("settings", [{}, {**PHONE, "language": "ru-RU", "colours": "dark"}], ids=["desktop", "phone"])
def test_loads_without_a_complaint_and_asks_nobody_else(browser: Browser, server: Server, settings: dict) -> None:
    with visit(browser, server, **settings) as page:
        assert ask(page, "привет")
        assert page.complaints == []
        asked = [url for url in page.requests if not url.startswith("data:")]
        assert asked == [f"{server.url}/", f"{server.url}/info", f"{server.url}/generate_stream"]
        assert "prometheus-mini · seq2seq · fp32 · CPU" in page.text("#facts")


def test_a_translation_streams_in(browser: Browser, server: Server) -> None:
    expected = server.post("/generate", {"prompt": "hello", "target": "ru"}).json()
    with visit(browser, server) as page:
        page.run(
            "globalThis.seen = []; new MutationObserver(() => seen.push(document.getElementById('answer').textContent))"
            ".observe(document.getElementById('answer'), {subtree: true, childList: true, characterData: true})"
        )
        assert ask(page, "hello") == expected["text"]
        seen = [text for text in page.run("seen") if text]
        assert len(set(seen)) > 1, "the answer came in one piece"
        assert all(expected["text"].startswith(text) for text in seen)
        assert page.text("#tokens") == str(expected["generated_tokens"])
        assert re.fullmatch(r"[\d.,]+ (ms|sec)", page.text("#first"))
        assert re.fullmatch(r"[\d.,]+ tok/s", page.text("#speed"))
        assert page.text("#count") == f"5 characters · {expected['prompt_tokens']} tokens"
        assert ("is cut short" in page.text("#note")) == (expected["finish_reason"] == "length")


def test_stop_ends_the_generation_on_the_server(browser: Browser, long: Server) -> None:
    with visit(browser, long) as page:
        page.click("#max_tokens")
        page.press("End")
        assert page.run("document.getElementById('max_tokens').value") == "16384"
        for stop in (lambda: page.click("#stop"), lambda: page.press("Escape")):
            assert ask(page, "hello", until="document.getElementById('answer').textContent.length > 20")
            assert running(long) == 1
            page.wait("document.getElementById('stop').checkVisibility({visibilityProperty: true})")
            stop()
            page.wait(DONE)
            assert page.text("#note") == "Stopped."
            tokens = int(page.text("#tokens").replace(",", ""))
            assert 20 < tokens < 16384
            wait_until(lambda: running(long) == 0, "the slot is free")
            assert page.run("document.getElementById('answer').textContent.length") >= 20, "what there was is kept"
        assert page.complaints == []


def test_errors_are_said_in_plain_words(browser: Browser, introduced: Server) -> None:
    stream = f"{introduced.url}/generate_stream"
    with visit(browser, introduced) as page:
        assert ask(page, "   ", until=ALERT) == ""
        assert page.text("#alert") == "There is nothing to translate yet: type a text first."
        page.write("h")
        assert not page.run(ALERT), "what was wrong is so no more"
        limit = introduced.get("/info").json()["limits"]["max_chars"]
        page.run(f"document.getElementById('text').value = 'ab '.repeat({limit})")  # past the page's own check
        page.press("Enter", CTRL)
        page.wait(ALERT)
        assert "The text is too long: 300,000 characters, and the server takes at most 100,000." in page.text("#alert")
        page.click('[data-language="ru"]')
        assert page.text("#alert").startswith("Текст слишком длинный: 300 000 символов")
        page.click('[data-language="en"]')
        assert page.run("document.getElementById('text').value.length") == 300000, "what was typed is kept"
        for status, words in ((429, "The server is busy"), (503, "starting or stopping"), (500, "broke in the server")):
            page.answer(stream, status, "application/json", b'{"error": "no"}')
            ask(page, "hello", until=ALERT)
            assert words in page.text("#alert")
        page.answer(stream, 200, EVENTS, b'data: {"text": "half"}\r\n\r\n')
        assert ask(page, "hello", until=ALERT) == "half"
        assert page.text("#alert") == "The connection broke off, so the answer is incomplete."
        page.answer(stream, 200, EVENTS, b'data: {"text": "half"}\n\ndata: {"error": "it broke"}\n\n')
        assert ask(page, "hello", until=ALERT) == "half"
        assert "it broke" in page.text("#alert")
        assert [said for said in page.complaints if not said.startswith("Failed to load resource")] == []


def test_a_server_without_streams_is_asked_for_the_whole(browser: Browser, server: Server) -> None:
    expected = server.post("/generate", {"prompt": "hello", "target": "ru"}).json()
    with visit(browser, server) as page:
        page.answer(f"{server.url}/generate_stream", 404, "application/json", b'{"error": "no such address"}')
        for _ in range(2):
            assert ask(page, "hello") == expected["text"]
            assert page.text("#tokens") == str(expected["generated_tokens"])
        assert page.requests.count(f"{server.url}/generate_stream") == 1


def test_russian_and_english(browser: Browser, server: Server) -> None:
    with visit(browser, server, language="ru-RU") as page:
        assert page.run("document.documentElement.lang") == "ru"
        assert page.text("#run-text") == "Перевести"
        options = "[...document.getElementById('from').options].map((option) => option.text)"
        assert page.run(options) == ["Определить язык", "Русский", "Английский"]
        for count in ("1 символ", "2 символа", "5 символов"):
            write(page, "text", "а" * int(count[0]))
            assert page.text("#count") == count
        page.click('[data-language="en"]')
        assert page.run("document.documentElement.lang") == "en"
        assert page.text("#run-text") == "Translate"
        assert page.text("#count") == "5 characters"
        assert not re.search("[а-яё]", page.run("document.querySelector('main').innerText")), (
            "a word is left in Russian"
        )
        page.open(server.url)
        page.wait("document.getElementById('run-text').innerText === 'Translate'")
    with visit(browser, server, language="de-DE") as page:
        assert page.text("#run-text") == "Translate"


def test_words_are_the_same_in_both_languages() -> None:
    page = (ROOT / "serving" / "playground" / "words.js").read_text(encoding="utf-8")
    english, russian = re.findall(r"^  (?:en|ru): \{\n(.*?)^  \},\n", page, re.DOTALL | re.MULTILINE)
    names = [set(re.findall(r"(?:^ {4}|, )(\w+): (?=[\"{(`])", text, re.MULTILINE)) for text in (english, russian)]
    assert len(names[0]) > 50
    assert names[0] == names[1] - {"few", "many"}


@pytest.mark.parametrize("language", ["ru-RU", "en-GB"])
@pytest.mark.parametrize("width", [320, 344, 360, 390])
def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Browser, introduced: Server, language: str, width: int
) -> None:
    with visit(browser, introduced, language=language, **{**PHONE, "width": width}) as page:
        page.click("#details summary")
        ask(page, "w" * 50)
        page.click("#past summary")
        page.answer(f"{introduced.url}/generate_stream", 400, "application/json", b'{"error": "prompt: no"}')
        assert ask(page, "w" * 500, until=ALERT) == ""
        assert page.run("document.documentElement.scrollWidth") == width
        boxes = "[...document.querySelectorAll('button, select, input, textarea, p, dd, h1')]"
        boxes += ".map((e) => [e.outerHTML, e.getBoundingClientRect()]).filter(([, {width}]) => width > 1)"
        inside = "document.getElementById('panels').getBoundingClientRect()"
        assert page.run(f"{boxes}.filter(([, {{left, right}}]) => left < 0 || right > {width - 8})") == []
        over = f"(({{left, right}}) => [left < {inside}.left, right > {inside}.right])"
        assert page.run(f"{over}(document.getElementById('run').getBoundingClientRect())") == [False, False]
        small = "([html, {height}]) => /^<(button|select)/.test(html) && height < 40"
        assert page.run(f"{boxes}.filter({small})") == [], "too small for a finger"


def test_hostile_text_stays_text(browser: Browser, server: Server) -> None:
    attack = f"{HOSTILE}<script>alert(2)</script>"
    with visit(browser, server) as page:
        events = f"data: {json.dumps({'text': attack})}\n\ndata: " + json.dumps(
            {"text": "", "finish_reason": "eos_token", "prompt_tokens": 1, "generated_tokens": 2}
        )
        page.answer(f"{server.url}/generate_stream", 200, EVENTS, events.encode() + b"\n\n")
        assert ask(page, attack) == attack
        page.answer(f"{server.url}/generate_stream", 400, "application/json", json.dumps({"error": attack}).encode())
        ask(page, attack, until=ALERT)
        assert attack in page.text("#alert")
        assert page.run("document.querySelectorAll('img, main script').length") == 0
        assert not [url for url in page.requests if url.endswith("/x")]
        # A mistake in the page could not let it in either: the policy has the browser refuse.
        refused = "(() => {try {document.body.innerHTML = '<b>x</b>'; return ''} catch (error) {return error.name}})()"
        assert page.run(refused) == "TypeError"
        page.run("document.head.append(Object.assign(document.createElement('style'), {textContent: '*{color:red}'}))")
        assert page.run("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_light_and_dark_are_both_legible(browser: Browser, introduced: Server, colours: str) -> None:
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    with visit(browser, introduced, colours=colours) as page:
        assert (page.run(brightness) > 128) == (colours == "light")
        ask(page, "привет")
        page.click("#swap")
        ask(page, " ", until=ALERT)
        found = page.pale()
        assert found["seen"] > 25
        assert found["pale"] == []
        for _ in range(2 if colours == "light" else 1):  # system, light, dark
            page.click("#theme")
        assert (page.run(brightness) > 128) == (colours == "dark")
        assert page.pale()["pale"] == []
        page.open(introduced.url)
        assert (page.run(brightness) > 128) == (colours == "dark"), "the choice is kept"


def test_everything_has_a_name_and_the_keyboard_is_enough(browser: Browser, server: Server) -> None:
    for language in ("en-GB", "ru-RU"):
        with visit(browser, server, language=language) as page:
            nodes = page.call("Accessibility.getFullAXTree")["nodes"]
            roles = ("button", "textbox", "combobox", "slider")
            controls = [n for n in nodes if n.get("role", {}).get("value") in roles and not n["ignored"]]
            assert len(controls) > 12
            assert [n for n in controls if not n.get("name", {}).get("value")] == []
    with visit(browser, server) as page:
        assert page.run("document.activeElement.id") == "text"
        page.write("привет")
        order: list[str] = []
        while "reset" not in order and len(order) < 40:
            page.press("Tab")
            order.append(page.run("document.activeElement.id"))
            ring = "(({outlineStyle, boxShadow}) => outlineStyle + boxShadow)(getComputedStyle(document.activeElement))"
            assert page.run(ring) != "nonenone", f"{order[-1]}: focus cannot be seen"
        stations = ["run", "swap", "target", "temperature", "max_tokens", "reset"]
        assert [name for name in order if name in stations] == stations
        ask(page, " ", until=ALERT)
        said = {node["role"]["value"] for node in page.call("Accessibility.getFullAXTree")["nodes"]}
        assert said >= {"alert", "status"}


def test_swap_author_and_copy(browser: Browser, server: Server) -> None:
    with visit(browser, server, language="ru-RU") as page:
        page.run("document.getElementById('author').value = 'guide'")
        text = ask(page, "привет")
        expected = server.post("/generate", {"prompt": "привет", "target": "en", "author": "guide"}).json()
        assert text == expected["text"]
        for clipboard in ("", "delete Clipboard.prototype.writeText"):  # browsers give none to plain http
            page.run(f"navigator.clipboard.writeText('other').then(() => {{{clipboard}}})")
            page.click("#copy")
            page.wait("document.getElementById('copy').classList.contains('copied')")
            assert page.run("navigator.clipboard.readText()") == text
        page.click("#swap")
        assert page.run("document.getElementById('text').value") == text
        directions = "document.getElementById('from').value + document.getElementById('target').value"
        assert page.run(directions) == "enru"
        write(page, "text", "совсем по-русски")
        assert page.text("#note").startswith("Похоже, язык текста — русский.")
        page.click("#note button")
        assert page.run(directions) == "ruen"
        assert page.text("#note") == ""


def test_a_text_model_behind_a_token(browser: Browser, guarded: Server) -> None:
    with browser.page() as page:
        page.open(guarded.url)
        page.wait("!document.getElementById('access').hidden")
        assert not page.run(READY)
        for token in ("wrong", TOKEN):
            page.wait("document.activeElement.id === 'token'")
            page.write(token)
            page.press("Enter")
            if token == "wrong":
                page.wait("document.getElementById('access-text').innerText.includes('does not accept')")
        page.wait(READY)
        assert page.run("[sessionStorage.getItem('token'), JSON.stringify(localStorage)]") == [TOKEN, "{}"]
        assert page.run("document.getElementById('temperature').value") == "0.8"
        assert HOSTILE in page.text("#facts")
        assert page.run("document.querySelectorAll('img').length") == 0
        assert page.run("document.getElementById('target').checkVisibility()") is False
        assert page.run("document.getElementById('beams').checkVisibility()") is False
        page.run("document.getElementById('temperature').focus()")
        page.press("End")
        write(page, "seed", "9007199254740993")
        texts = {ask(page, "hello ") for _ in range(2)}
        body = {"prompt": "hello ", "temperature": 2, "seed": 9007199254740993}
        secret = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{guarded.url}/generate", json=body, headers=secret, verify=False)
        assert texts == {answer.json()["text"]}
        assert not [url for url in page.requests if TOKEN in url]
        write(page, "seed", HOSTILE[:19])
        ask(page, "hello", until=ALERT)
        assert "“Seed” has a value that the server does not accept." in page.text("#alert")
        page.open(guarded.url)
        page.wait(READY)  # the tab remembers
    assert TOKEN not in guarded.log.read_text()
