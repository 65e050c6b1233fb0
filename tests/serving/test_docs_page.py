"""The page of all addresses, /docs, in headless Chromium against the real server: read, opened, tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.helpers.browser import Browser, Page
from tests.helpers.servers import TOKEN, Server

READY = "document.querySelectorAll('#groups details').length > 40"
PHONE: dict[str, Any] = {"width": 320, "height": 640, "mobile": True}
# The card of an address, opened; everything in it has no name but its place.
CARD = "[...document.querySelectorAll('details')].find((one) => one.querySelector('summary').innerText.includes('{}'))"


@contextmanager
def visit(browser: Browser, server: Server, **settings: Any) -> Iterator[Page]:
    with browser.page(**settings) as page:
        page.open(f"{server.url}/docs")
        page.wait(READY)
        yield page


def unfold(page: Page, address: str) -> str:
    """Open the card of an address; an expression for it."""
    page.run(f"{CARD.format(address)}.id = 'tried'")
    page.click("#tried summary")
    page.wait("document.querySelector('#tried button') !== null")
    return "document.getElementById('tried')"


def send(page: Page, card: str, body: str | None = None) -> tuple[str, str]:
    """Press the card's button; what the page then says of the answer, and the answer."""
    page.run(f"{card}.querySelector('.status').textContent = ''")
    if body is not None:
        page.run(f"{card}.querySelector('textarea').focus(); {card}.querySelector('textarea').select()")
        page.write(body)
    page.click("#tried button")
    page.wait(f"{card}.querySelector('.status').textContent !== '' && !{card}.querySelector('button').disabled")
    return page.text("#tried .status"), page.run(f"{card}.querySelector('pre').textContent")


def test_it_is_guarded_by_its_headers(server: Server) -> None:
    page = server.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    again = httpx.get(f"{server.url}/docs", headers={"if-none-match": page.headers["etag"]}, verify=False)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("settings", [{}, {**PHONE, "language": "ru-RU", "colours": "dark"}], ids=["desktop", "phone"])
def test_it_loads_without_a_complaint_and_asks_nobody_else(browser: Browser, server: Server, settings: dict) -> None:
    with visit(browser, server, **settings) as page:
        asked = [url for url in page.requests if not url.startswith("data:")]
        assert asked == [f"{server.url}/docs", f"{server.url}/openapi.json"]
        assert page.text("h2") == "Ours"
        page.run("for (const each of document.querySelectorAll('details')) each.open = true")
        page.wait("document.querySelectorAll('details > .operation:empty').length === 0")
        width = page.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width[0] <= width[1] <= settings.get("width", 1280)
        seen = page.pale()
        assert seen["seen"] > 300 and seen["pale"] == []
        assert page.complaints == []


def test_a_call_is_made_and_its_answer_shown(browser: Browser, server: Server) -> None:
    expected = server.post("/translate", {"q": "мир", "source": "ru", "target": "en"}).json()
    with visit(browser, server) as page:
        card = unfold(page, "/translate")
        assert "q\nstring | [string], required" in page.text("#tried dl")
        status, answer = send(page, card)
        assert status.startswith("200 · ") and '"translatedText"' in answer
        status, answer = send(page, card, '{"q": "мир", "source": "ru", "target": "en"}')
        assert page.run(f"JSON.parse({card}.querySelector('pre').textContent)") == expected
        status, answer = send(page, card, '{"q": "мир", "source": "<img src=x onerror=alert(1)>", "target": "en"}')
        assert status.startswith("400 · ") and "<img src=x" in answer
        assert page.run("document.querySelectorAll('pre img').length") == 0
        assert not [complaint for complaint in page.complaints if "400" not in complaint]


def test_an_address_without_a_body(browser: Browser, server: Server) -> None:
    with visit(browser, server, language="ru-RU") as page:
        card = unfold(page, "/frontend/settings")
        assert page.text("#tried button") == "Отправить"
        assert "Токен не нужен." in page.text("#tried p")
        status, answer = send(page, card)
        assert status.startswith("200 · ") and "charLimit" in answer


def test_it_asks_for_the_token(browser: Browser, guarded: Server) -> None:
    with browser.page() as page:
        page.open(f"{guarded.url}/docs")
        page.wait("!document.getElementById('access').hidden")
        for token, until in (
            ("wrong", "document.getElementById('access-text').textContent.includes('not accept')"),
            (TOKEN, READY),
        ):
            page.run("document.getElementById('token').focus()")
            page.write(token)
            page.press("Enter")
            page.wait(until)
        status, _ = send(page, unfold(page, "/generate"))
        assert status.startswith("200 · ")
        assert TOKEN not in page.run("document.documentElement.outerHTML")
