"""The playground's page in a browser: opened, typed into, asked; and what a bundle says of itself on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers.browser import CTRL, Browser, Page
from tests.helpers.servers import Server

DONE = "document.getElementById('answer').ariaBusy === 'false'"
READY = "!document.getElementById('panels').hidden"
ALERT = "!document.getElementById('alert').hidden"
TEXTS = [("Этот рис такой сладкий!", "ru"), ("My neighbour speaks fluent Russian.", "en")]
INTRODUCTION: Any = {
    "about": "", "rows": 22542, "characters": 1234567, "sources": ["demo.jsonl.zst"],
    "examples": [{"text": text, "language": code} for text, code in TEXTS],
}  # fmt: skip


@contextmanager
def visit(browser: Browser, server: Server, **settings: Any) -> Iterator[Page]:
    """The page, loaded and ready to be typed into."""
    with browser.page(**settings) as page:
        page.open(server.url)
        page.wait(READY)
        yield page


def write(page: Page, field: str, text: str) -> None:
    """Replace what a field holds."""
    page.run(f"document.getElementById('{field}').focus(); document.getElementById('{field}').select()")
    page.write(text)


def ask(page: Page, text: str, until: str = DONE) -> str:
    """Replace the text, press Ctrl+Enter, wait; the answer."""
    write(page, "text", text)
    page.press("Enter", CTRL)
    page.wait(until)
    return page.run("document.getElementById('answer').textContent")
