"""The optional access token: one secret in a file, sent by callers as a bearer token over REST and gRPC.

Probes, metrics and the playground page need none (``rest/middleware.py`` and ``grpc/server.py`` say which those are).
The token is never logged and takes part in no message.

    curl -H "Authorization: Bearer $(cat token)" localhost:8080/info
"""

import hmac
from pathlib import Path

from model.config import ConfigError
from serving.errors import Unauthorized

SCHEMES = ("bearer ", "deepl-auth-key ")  # the second is that of DeepL's clients


class BearerToken:
    """The token that callers must know.

    Args:
        path: a file of one line; surrounding white space is not part of the token.

    Raises:
        ConfigError: when the file cannot be read, or holds no usable token.
    """

    def __init__(self, path: str) -> None:
        try:
            text = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"token_file {path} cannot be read ({why})") from None
        if not text:
            raise ConfigError(f"token_file {path} is empty; write a token into it, or leave the setting out")
        if not text.isascii() or len(text.split()) != 1:
            raise ConfigError(f"token_file {path} must hold one token in ASCII without spaces")
        self._token = text.encode()

    def check(self, authorization: str | bytes | None) -> None:
        """Pass a call with this ``Authorization`` header or metadata, in constant time.

        Raises:
            Unauthorized: when it is missing or does not match.
        """
        if isinstance(authorization, bytes):
            authorization = authorization.decode("latin-1")
        if not authorization:
            raise Unauthorized("authorization: is missing; send it as 'Bearer TOKEN'", missing=True)
        scheme = next((each for each in SCHEMES if authorization.lower().startswith(each)), None)
        if scheme is None:
            raise Unauthorized("authorization: must be 'Bearer TOKEN'")
        self._compare("authorization", authorization[len(scheme) :].strip())

    def check_key(self, key: object) -> None:
        """Pass a call with this ``api_key``, of a door whose clients send the token so.

        Raises:
            Unauthorized: when it is missing or does not match.
        """
        if key in (None, ""):
            raise Unauthorized("api_key: is missing; this server asks for its access token", missing=True)
        self._compare("api_key", str(key)[:1024])

    def _compare(self, name: str, given: str) -> None:
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            raise Unauthorized(f"{name}: the token is not the right one")
