"""Headless Chromium over the DevTools protocol, for tests of pages: real keys and clicks, and everything it reports.

No driver program and no browser library: the protocol is JSON over one WebSocket.

with start_browser(tmp_path) as browser, browser.page(width=390, height=844, mobile=True) as page:
    page.open(server.url)
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
# Text whose contrast with what lies behind it is under WCAG's 4.5; what is disabled may be pale.
PALE = """(() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => rgb(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => (rgb(getComputedStyle(e).backgroundColor)[3] === 0 && e.parentElement
    ? behind(e.parentElement) : getComputedStyle(e).backgroundColor);
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const said = [...document.body.querySelectorAll("*")].filter((e) => e.checkVisibility({ visibilityProperty: true })
    && !e.closest(".unseen, .setting:has(:disabled), noscript, script, select")
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return { seen: said.length, pale: said
    .map((e) => [e.outerHTML.slice(0, 80), ratio(light(getComputedStyle(e).color), light(behind(e)))])
    .filter(([, found]) => found < 4.5) };
})()"""
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35, "ArrowRight": 39, "ArrowLeft": 37}
CTRL = 2


def find_browser() -> str | None:
    """Path of a Chromium on this machine."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab in a profile of its own: nothing is shared with other tabs.

    Attributes:
        requests: address of everything that the tab has asked for, data: addresses included.
        complaints: what it has written to its console as an error or a warning, and its uncaught exceptions.
    """

    def __init__(self, connection: ClientConnection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._last = 0
        self._answers: dict[str, tuple[int, str, bytes]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        command = self._send(method, parameters)
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("sessionId", "") != self._session:
                continue
            if answer.get("id") == command:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, "sessionId": self._session}
        self._connection.send(json.dumps({key: value for key, value in message.items() if value != ""}))
        return self._last

    def _note(self, method: str | None, event: dict[str, Any]) -> None:
        if method == "Fetch.requestPaused":
            status, kind, body = next(made for url, made in self._answers.items() if event["request"]["url"] == url)
            headers = [{"name": "content-type", "value": kind}]
            answer = {"requestId": event["requestId"], "responseCode": status, "responseHeaders": headers}
            # Its own answer is not waited for: this runs in the middle of another call.
            self._send("Fetch.fulfillRequest", {**answer, "body": base64.b64encode(body).decode()})
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(event["args"])[:500])
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def answer(self, url: str, status: int, kind: str, body: bytes) -> None:
        """From now on, give this answer to requests for ``url`` in place of the server's: what a proxy may do to it."""
        self._answers[url] = (status, kind, body)
        self.call("Fetch.enable", patterns=[{"urlPattern": url} for url in self._answers])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> Any:
        """Wait until a JavaScript expression is true; its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"waited {seconds} s for {condition}; complaints: {self.complaints}"
            time.sleep(0.01)
        return value

    def text(self, selector: str) -> str:
        """The text of an element as it is shown, every space a plain one."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText.replace(/\\u00a0|\\u202f/g, ' ')")

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element; something that lies over it gets the click, as for a person."""
        where = json.dumps(selector)
        self.run(f"document.querySelector({where}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({where}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Put text where the focus is."""
        self.call("Input.insertText", text=text)

    def paste(self) -> None:
        """Press Ctrl+V."""
        event = {"key": "v", "code": "KeyV", "windowsVirtualKeyCode": 86, "modifiers": CTRL}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", commands=["paste"], **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key."""
        event: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        down = {"type": "keyDown", "text": "\r"} if key == "Enter" and not modifiers else {"type": "rawKeyDown"}
        for kind in (down, {"type": "keyUp"}):
            self.call("Input.dispatchKeyEvent", **event, **kind)

    def pale(self) -> dict[str, Any]:
        """How many elements with text are seen, and those whose contrast is too low: ``{"seen": n, "pale": [...]}``."""
        return self.run(PALE)

    def screenshot(self, path: Path) -> None:
        """The whole page, as a PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))


class Browser:
    """A running Chromium."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._all = Page(connection, "")  # the browser itself: messages without a session

    @contextmanager
    def page(
        self,
        width: int = 1280,
        height: int = 900,
        mobile: bool = False,
        language: str = "en-GB",
        colours: str = "light",
    ) -> Iterator[Page]:
        """A tab of a new profile; sizes in CSS pixels, ``colours`` is what the system prefers: light or dark."""
        context = self._all.call("Target.createBrowserContext")["browserContextId"]
        target = self._all.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]  # otherwise a person would be asked
        self._all.call("Browser.grantPermissions", browserContextId=context, permissions=allowed)
        session = self._all.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self._connection, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        agent = page.run("navigator.userAgent")
        page.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=mobile, deviceScaleFactor=1)
        page.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
        page.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": colours},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )
        try:
            yield page
        finally:
            self._all.call("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def start_browser(folder: Path) -> Iterator[Browser]:
    """Run Chromium with an empty profile in ``folder`` until the block ends."""
    path = find_browser()
    assert path, "no Chromium on this machine; ask find_browser first"
    options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-first-run"]
    # It must not speak to anyone by itself; a container has a small /dev/shm and, for root, no sandbox.
    options += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
    options += ["--disable-gpu", "--no-sandbox"]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1,localhost"}
    log = folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen([path, *options, "about:blank"], stdout=out, stderr=out, env=environment)
    try:
        found = folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (found.exists() and len(lines := found.read_text().split()) == 2):
            assert process.poll() is None and time.monotonic() < end, f"Chromium did not start:\n{log.read_text()}"
            time.sleep(0.02)
        port, address = lines
        with connect(f"ws://127.0.0.1:{port}{address}", max_size=None, proxy=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
