"""``GET /``: the playground, a page on which a person tries the model.

The page is one file, ``serving/playground/index.html``, with its style and its script inside. Its policy allows those
two, by their hashes, and requests to this server, and nothing else; it is made from the file, so that it cannot be out
of date. The page needs no access token: it holds nothing secret, and asks for one when the API wants one.

curl -i localhost:8080/
"""

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/"
PAGE = Path(__file__).resolve().parents[1] / "playground" / "index.html"


def route() -> Route:
    """``/``, for GET and HEAD."""
    page = PAGE.read_bytes()
    etag = f'"{hashlib.sha256(page).hexdigest()[:32]}"'
    headers = {
        "etag": etag,
        "cache-control": "no-cache",  # kept, but asked about each time: a new version of the server is seen at once
        "content-security-policy": content_security_policy(page.decode("utf-8")),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

    async def show(request: Request) -> Response:
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(None, 304, headers)
        return Response(page, 200, headers, "text/html")

    return Route(PATH, show)


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
