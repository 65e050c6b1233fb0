"""Where the page's texts come from and go to, in headless Chromium: examples, files, links, the clipboard, the past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from model.bundle import copy_bundle
from tests.helpers.browser import Browser, Page
from tests.helpers.playground import ALERT, DONE, INTRODUCTION, READY, ask, visit, write
from tests.helpers.servers import Server, start_server

FROM = "document.getElementById('from').selectedOptions[0].text"
DIRECTIONS = "document.getElementById('from').value + '-' + document.getElementById('target').value"
TEXT = "document.getElementById('text').value"
ANSWER = "document.getElementById('answer').textContent"
KNOWN = "[...document.querySelectorAll('#past-texts button')].map((b) => b.firstChild.textContent)"


def choose(page: Page, field: str, value: str) -> None:
    page.run(f"document.getElementById('{field}').value = '{value}'")
    page.run(f"document.getElementById('{field}').dispatchEvent(new Event('change'))")


def sent(page: Page) -> list[str]:
    """Addresses of everything that the page asked of the server, without what it is made of."""
    return [url for url in page.requests if url.rpartition("/")[2] not in ("", "info") and not url.startswith("data:")]


def test_an_example_is_a_click_away(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced, language="ru-RU") as page:
        about = "Модель училась на 22 542 парах предложений (русский и английский, 1 234 567 символов): demo.jsonl.zst."
        assert page.text("#about") == f"{about} Об остальном она может только гадать."
        page.click('[data-language="en"]')
        about = "The model has learned from 22,542 sentence pairs (Russian and English, 1,234,567 characters)"
        assert page.text("#about") == f"{about}: demo.jsonl.zst. At anything else it can only guess."
        for place, (text, source, target) in enumerate(
            [("Этот рис такой сладкий!", "ru", "en"), ("My neighbour speaks fluent Russian.", "en", "ru")]
        ):
            page.click(f"#examples li:nth-child({place + 2}) button")
            page.wait(f"{TEXT} === {json.dumps(text)} && {DONE}")
            expected = introduced.post("/generate", {"prompt": text, "source": source, "target": target}).json()
            assert page.run(ANSWER) == expected["text"]
            choose(page, "from", target)  # the wrong one, for the next
            assert page.run(DIRECTIONS) == f"{target}-{source}"
        page.click("#examples li:nth-child(2) button")
        assert page.run(DIRECTIONS) == "auto-en"
        mine = {"about": "Phrases of <b>mine</b>.", "examples": []}
        info = {**introduced.get("/info").json(), "introduction": {**INTRODUCTION, **mine}}
        page.answer(f"{introduced.url}/info", 200, "application/json", json.dumps(info).encode())
        page.open(introduced.url)
        page.wait(READY)
        assert page.text("#try") == "Phrases of <b>mine</b>."


def test_a_bundle_without_an_introduction_says_nothing(browser: Browser, server: Server) -> None:
    with visit(browser, server) as page:
        assert page.run("document.getElementById('try').checkVisibility()") is False


def test_the_language_is_told_by_the_text(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        assert page.run(FROM) == "Detect language"
        write(page, "text", "как дела")
        assert (page.run(FROM), page.run(DIRECTIONS)) == ("Russian (auto)", "auto-en")
        write(page, "text", "how are you")
        assert (page.run(FROM), page.run(DIRECTIONS)) == ("English (auto)", "auto-ru")
        write(page, "text", "2024")
        assert page.run(FROM) == "Detect language"
        assert page.text("#note") == ""
        choose(page, "target", "en")
        assert ask(page, "this is English already") == "this is English already", "it comes back as it is"
        assert page.text("#note") == "This text is in English already. Translate into Russian"
        page.click("#note button")
        assert page.run(DIRECTIONS) == "auto-ru"
        choose(page, "from", "ru")
        assert page.run(DIRECTIONS) == "ru-en"
        write(page, "text", "how are you")
        assert page.text("#note") == "This looks like English. Change direction"
        ask(page, "how are you today")
        assert page.text("#note").endswith("This looks like English. Change direction"), "whatever else is to be said"
        choose(page, "from", "en")
        assert page.run(DIRECTIONS) == "en-ru"


def test_languages_of_one_script_are_told_by_the_server(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        info = {**introduced.get("/info").json(), "languages": ["de", "en"]}
        page.answer(f"{introduced.url}/info", 200, "application/json", json.dumps(info).encode())
        last = {
            "text": "hello",
            "source": "de",
            "finish_reason": "eos_token",
            "prompt_tokens": 1,
            "generated_tokens": 1,
        }
        page.answer(
            f"{introduced.url}/generate_stream", 200, "text/event-stream", f"data: {json.dumps(last)}\n\n".encode()
        )
        page.open(introduced.url)
        page.wait(READY)
        write(page, "text", "Guten Tag")
        assert page.run(FROM) == "Detect language"
        assert ask(page, "Guten Tag") == "hello"
        assert page.run(FROM) == "German (auto)"


def test_paragraphs_stay_paragraphs(browser: Browser, introduced: Server) -> None:
    text = "Первая строка.\n\n- вторая строка\n- третья строка"
    with visit(browser, introduced) as page:
        answer = ask(page, text)
        assert answer == introduced.post("/generate", {"prompt": text, "source": "auto", "target": "en"}).json()["text"]
        assert "\n\n- " in answer


@pytest.mark.parametrize("by", ["button", "drop"])
def test_a_file_is_read_in_the_page(browser: Browser, introduced: Server, tmp_path: Path, by: str) -> None:
    def give(path: Path) -> None:
        if by == "drop":
            x, y = 300, 250
            data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
            for kind in ("dragEnter", "dragOver", "drop"):
                page.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
        else:
            root = page.call("DOM.getDocument")["root"]["nodeId"]
            node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
            page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    subtitles = "1\n00:00:01,000 --> 00:00:02,000\nПривет!\n"
    (tmp_path / "film.srt").write_text(subtitles, encoding="utf-8-sig")
    (tmp_path / "notes.docx").write_bytes(b"PK\x03\x04\x00\xff\xfe")
    (tmp_path / "wide.txt").write_text("а" * 150_000, encoding="utf-8")
    (tmp_path / "huge.txt").write_text("a" * 500_000, encoding="utf-8")
    with visit(browser, introduced) as page:
        give(tmp_path / "film.srt")
        page.wait(f"{TEXT} !== ''")
        assert (page.run(TEXT), page.text("#note")) == (subtitles, "From film.srt.")
        assert page.run(FROM) == "Russian (auto)"
        for name, words in (
            ("notes.docx", "notes.docx is not text in UTF-8. Save it as plain text first."),
            ("wide.txt", "This is too long: 150,000 characters, and the server takes at most 100,000 characters"),
            ("huge.txt", "huge.txt is too large: at most 100,000 characters fit. It was not read."),
        ):
            give(tmp_path / name)
            page.wait(f"document.getElementById('alert').innerText.includes({json.dumps(words.split()[0])})")
            assert words in page.text("#alert")
            assert page.run(TEXT) == subtitles, "what was there stays"
        assert sent(page) == []
        assert page.complaints == []


def test_a_megabyte_is_refused_before_it_is_laid_out(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        write(page, "text", "before ")
        page.run("navigator.clipboard.writeText('слово '.repeat(200000))")
        page.paste()
        page.wait(ALERT)
        words = "This is too long: 1,200,007 characters, and the server takes at most 100,000 characters at a time."
        assert page.text("#alert") == f"{words} Nothing was changed."
        assert page.run(TEXT) == "before "
        page.run("navigator.clipboard.writeText('x'.repeat(99000))")
        page.paste()
        page.wait(f"{TEXT}.length === 99007")
        assert not page.run(ALERT), "what was wrong is so no more"


def test_a_link_carries_the_text_and_tells_the_server_nothing(browser: Browser, introduced: Server) -> None:
    text = "Привет, мир & <b>всё</b> #1?\nВторая строка"
    with visit(browser, introduced) as page:
        write(page, "text", text)
        page.click("#link")
        page.wait("document.getElementById('link').classList.contains('copied')")
        link = page.run("navigator.clipboard.readText()")
        assert page.text("#note").startswith("The link is copied. It carries the text itself")
        assert link.startswith(f"{introduced.url}/#text=") and text in unquote_plus(link)
        assert page.run("location.hash") == ""
    with visit(browser, introduced, language="ru-RU") as page:
        page.open("about:blank")
        page.open(link)
        page.wait(f"{READY} && {TEXT} !== ''")
        assert (page.run(TEXT), page.run(DIRECTIONS)) == (text, "auto-en")
        assert sent(page) == [], "a stranger's text is not sent before a person asks for it"
        page.run("location.hash = 'text=' + 'x'.repeat(2001)")
        page.wait(ALERT)
        assert page.text("#alert") == "В ссылку помещается не больше 2 000 символов."
        assert page.run(TEXT) == text
        page.run("location.hash = 'text=hello&from=xx&into=ru%22'")
        page.wait(f"{TEXT} === 'hello'")
        assert page.run(DIRECTIONS) == "auto-en"
        write(page, "text", "ы" * 2001)
        page.click("#link")
        page.wait(ALERT)
        assert "Привет" not in introduced.log.read_text()


def test_the_last_texts_stay_in_the_browser(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        assert page.run("document.getElementById('past').checkVisibility()") is False
        first = ask(page, "привет")
        ask(page, "hello")
        page.open(introduced.url)
        page.wait(READY)
        page.click("#past summary")
        assert page.run(KNOWN) == ["hello", "привет"]
        page.click("#past-texts li:nth-child(2) button")
        assert (page.run(TEXT), page.run(ANSWER), page.run(DIRECTIONS)) == ("привет", first, "auto-en")
        ask(page, "привет")
        assert page.run(KNOWN) == ["привет", "hello"], "a text that comes again is there once"
        many: list[dict[str, Any]] = [{"text": f"t{n}", "answer": "", "into": "en"} for n in range(30)]
        page.run(f"localStorage.setItem('past', {json.dumps(json.dumps([7, None, *many]))})")
        ask(page, "newest")
        assert page.run(KNOWN) == ["newest", *(f"t{n}" for n in range(19))]
        ask(page, "long word " * 1500)
        assert page.run("JSON.parse(localStorage.getItem('past')).length") == 20
        assert page.run(KNOWN)[0] == "newest", "a file's worth of text is not kept"
        page.click("#clear")
        assert page.run("localStorage.getItem('past')") is None
        assert page.run("document.getElementById('past').checkVisibility()") is False


def test_nothing_is_kept_by_who_does_not_want_it(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        ask(page, "привет")
        page.click("#past summary")
        page.click("#keep")
        assert page.run("[localStorage.getItem('past'), localStorage.getItem('keep')]") == [None, "no"]
        ask(page, "hello")
        assert page.run("localStorage.getItem('past')") is None
        page.open(introduced.url)
        page.wait(READY)
        assert page.run("document.getElementById('keep').checked") is False
        page.click("#past summary")
        page.click("#keep")
        ask(page, "hello")
        assert page.run(KNOWN) == ["hello"]


def test_a_browser_that_forbids_storage_is_no_error(browser: Browser, introduced: Server) -> None:
    refuse = "{ get() { throw new DOMException('denied', 'SecurityError'); } }"
    with browser.page() as page:
        for name in ("localStorage", "sessionStorage"):
            script = f"Object.defineProperty(window, '{name}', {refuse})"
            page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        page.open(introduced.url)
        page.wait(READY)
        assert ask(page, "привет")
        page.click("#theme")
        page.click('[data-language="ru"]')
        assert page.run("document.getElementById('past').checkVisibility()") is False
        assert page.complaints == []


def test_beams_are_a_choice_where_nothing_is_drawn(browser: Browser, introduced: Server) -> None:
    expected = introduced.post("/generate", {"prompt": "привет", "target": "en", "beams": 8}).json()["text"]
    with visit(browser, introduced) as page:
        page.run("document.getElementById('beams').focus()")
        page.press("End")
        assert page.run("document.getElementById('beams').value") == "8"
        assert ask(page, "привет") == expected
        page.run("document.getElementById('temperature').focus()")
        page.press("End")
        assert page.run("document.getElementById('beams').disabled")
        assert page.text("#greedy") == "Above temperature 0 each token is drawn at random, so there are no beams."
        assert ask(page, "привет") and not page.run(ALERT)


def test_the_bundles_beams_are_where_the_slider_stands(browser: Browser, tiny: Path, tmp_path: Path) -> None:
    copy_bundle(tiny, tmp_path / "bundle", {}, {}, beams=4)
    with start_server(tmp_path / "bundle", tmp_path / "log") as server, visit(browser, server) as page:
        expected = {
            beams: server.post("/generate", {"prompt": "привет", "target": "en", "beams": beams}).json()["text"]
            for beams in (1, 4)
        }
        assert expected[1] != expected[4], "else this test could not fail"
        assert page.run("document.getElementById('beams').value") == "4"
        assert ask(page, "привет") == expected[4]
        page.run("document.getElementById('beams').focus()")
        page.press("Home")
        assert ask(page, "привет") == expected[1]
        page.click("#reset")
        assert page.run("document.getElementById('beams').value") == "4"


def test_other_versions_are_drawn_on_demand(browser: Browser, introduced: Server) -> None:
    with visit(browser, introduced) as page:
        assert page.run("document.getElementById('more').checkVisibility()") is False
        answer = ask(page, "привет. как дела?")
        page.click("#more")
        page.wait("document.querySelectorAll('#versions li').length")
        versions = page.run("[...document.querySelectorAll('#versions li')].map((item) => item.textContent)")
        assert len({answer, *versions}) == len(versions) + 1 <= 4
        page.answer(f"{introduced.url}/generate", 200, "application/json", json.dumps({"texts": [answer] * 3}).encode())
        page.click("#more")
        page.wait("document.getElementById('note').innerText.includes('the same each time')")
        assert ask(page, "hello") and page.run("document.querySelectorAll('#versions li').length") == 0
        assert page.complaints == []
