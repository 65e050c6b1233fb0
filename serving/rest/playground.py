"""``GET /``: the playground, a page on which a person tries the model; ``GET /docs``: one that tells all addresses.

A page is a file of ``serving/playground`` with the files that it names put in, as one answer: while servers of two
versions stand behind an address, no page is made of both. Its policy allows its own style and script, by their hashes,
and requests to this server, and nothing else; it is made from the page, so that it cannot be out of date. A page needs
no access token: it holds nothing secret, and asks for one when the API wants one.

curl -i localhost:8080/
"""

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from serving.rest.operations import Operation

PATH = "/"
FOLDER = Path(__file__).resolve().parents[1] / "playground"


def routes() -> list[Operation]:
    """``/`` and ``/docs``, for GET and HEAD."""
    return [
        _page(PATH, "index.html", "A page to try the model on."),
        _page("/docs", "docs.html", "A page of all addresses, to try them."),
    ]


def _page(path: str, name: str, about: str) -> Operation:
    page = whole(name).encode()
    etag = f'"{hashlib.sha256(page).hexdigest()[:32]}"'
    headers = {
        "etag": etag,
        "cache-control": "no-cache",  # kept, but asked about each time: a new version of the server is seen at once
        "content-security-policy": content_security_policy(page.decode()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

    async def show(request: Request) -> Response:
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(None, 304, headers)
        return Response(page, 200, headers, "text/html")

    return Operation("GET", path, show, about, gives=("text/html",), open=True)


def whole(name: str) -> str:
    """A page, each ``{{ NAME }}`` in it replaced by the file of that name."""
    frame = (FOLDER / name).read_text("utf-8")
    return re.sub(r"\{\{ ([a-z.]+) \}\}", lambda named: (FOLDER / named[1]).read_text("utf-8"), frame)


def content_security_policy(html: str) -> str:
    """The policy for a page: its own inline style and script, calls to its own server, and nothing else.

    Trusted Types are required and no policy may be made, so that a browser refuses to read any text as HTML.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(html, 'script')}",
            f"style-src {_hashes(html, 'style')}",
            "connect-src 'self'",
            "img-src data:",  # the icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hashes(html: str, tag: str) -> str:
    """Sources for the inline elements of one kind, as the policy names them."""
    contents = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
