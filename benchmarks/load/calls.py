"""The calls of the soak test: every protocol, each made well, abandoned midway, or with bad input.

status = await Calls(8080, 8081, info).make("v2 JSON", "good", connection, random.Random(0))
"""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import grpc

from benchmarks.load.client import Client, StatusError
from benchmarks.load.messages import INFER, STREAMS, http_message, infer_request

HOST = "127.0.0.1"
WORDS = ("файл", "открыть", "не", "удалось", "the", "file", "could", "not", "be", "opened", "ещё", "—", "🙂", "42")
CHANNELS = 8  # gRPC connections that all clients share
REFUSED = (400, 404, 413, 422)
BAD_PARAMETERS: tuple[dict[str, Any], ...] = (
    {"max_tokens": 0},  # 10**9 is as many as fit, to OpenAI's clients
    {"max_tokens": "many"},
    {"temperature": -1},
    {"temperature": "hot"},
    {"top_p": 7},
    {"target": "klingon"},
    {"stop": [1, 2]},
    {"no_such_parameter": 1},
)
BAD_BODIES = (b"", b"{", b"[]", b"\xff\xfe{}", b'{"inputs": 5}', b'{"prompt": {"a": [1, 2, 3]}}', b"null", b"[" * 5000)


class Left(Exception):
    """This client went away on purpose."""


class BadAnswer(Exception):
    """An answer that must not be: bad input taken, or a stream that ends in an error."""


class Calls:
    """All ways to call one server; ``info`` is what its ``/info`` said."""

    kinds = ("v2 JSON", "v2 binary", "/generate", *STREAMS, "gRPC")

    def __init__(self, http_port: int, grpc_port: int, info: dict[str, Any]) -> None:
        self.model = info["name"]
        self.limits = info["limits"]
        self.translation = info["task"] == "translation"
        self.channels = [grpc.aio.insecure_channel(f"{HOST}:{grpc_port}", _own_connection(i)) for i in range(CHANNELS)]

    async def close(self) -> None:
        """Close the gRPC connections."""
        for channel in self.channels:
            await channel.close()

    async def make(self, kind: str, manner: str, connection: Client, dice: random.Random) -> str:
        """One call; "ok", or "bad input refused" where it was meant to be.

        Raises:
            Left: an abandoned call.
            StatusError: a status that does not suit the call.
            BadAnswer, ConnectionError: an answer that does not.
        """
        text, parameters = self._text(dice), self._parameters(dice)
        if manner == "bad":
            parameters |= dice.choice(BAD_PARAMETERS)
        leave = dice.uniform(0.0, 0.3) if manner == "abandoned" else None
        if kind == "gRPC":
            return await self._grpc(text, parameters, manner == "bad", leave, dice)
        path, body, headers = http_message(kind, self.model, text, parameters)
        if manner == "bad" and dice.random() < 0.5:
            body = dice.choice(BAD_BODIES)
        if kind in STREAMS:
            call = self._stream(path, body, connection, leave is not None, dice)
        else:
            call = self._whole(path, body, headers, connection)
        try:
            # A stream is left after some of its events instead, unless they are long in coming.
            done = await asyncio.wait_for(call, leave) if leave is not None else await call
        except TimeoutError:
            connection.abort()
            raise Left from None
        except StatusError as error:
            if manner == "bad" and error.status in REFUSED:
                return "bad input refused"
            raise
        if manner == "bad":
            raise BadAnswer(f"took bad input: {body[:200]!r}")
        return done

    async def _whole(self, path: str, body: bytes, headers: Mapping[str, str], connection: Client) -> str:
        status, answer = await connection.call("POST", path, body, headers)
        if status != 200:
            raise StatusError(status, answer)
        return "ok"

    async def _stream(self, path: str, body: bytes, connection: Client, leaves: bool, dice: random.Random) -> str:
        stay = dice.randint(1, 20) if leaves else 0
        last = b""
        count = 0
        async for event in connection.events(path, body):
            last = event if event != b"[DONE]" else last
            count += 1
            if count == stay:
                connection.abort()
                raise Left
        if not last or "error" in json.loads(last):
            raise BadAnswer(f"a stream ended by {last[:200]!r}")
        return "ok"

    async def _grpc(
        self, text: str, parameters: dict[str, Any], bad: bool, leave: float | None, dice: random.Random
    ) -> str:
        call = dice.choice(self.channels).unary_unary(INFER)(infer_request(self.model, text, parameters))
        try:
            await asyncio.wait_for(call, leave)
        except TimeoutError:
            call.cancel()
            raise Left from None
        except grpc.aio.AioRpcError as error:
            if bad and error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                return "bad input refused"
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise StatusError(429, b"") from None
            raise BadAnswer(f"{error.code().name}: {error.details()}") from None
        if bad:
            raise BadAnswer(f"took bad input: {parameters}")
        return "ok"

    def _text(self, dice: random.Random) -> str:
        most = min(self.limits["max_prompt_tokens"] // 4, 60)
        text = " ".join(dice.choices(WORDS, k=dice.randint(1, max(1, most // 4))))
        return text[: max(1, most)]

    def _parameters(self, dice: random.Random) -> dict[str, Any]:
        most = min(self.limits["max_new_tokens"] // 2, 150)
        parameters: dict[str, Any] = {"max_tokens": dice.randint(1, most)}
        if self.translation:
            parameters["target"] = dice.choice(("ru", "en"))
        if dice.random() < 0.4:
            parameters |= {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "seed": dice.randint(0, 1000)}
        if dice.random() < 0.1:
            parameters["stop"] = [dice.choice(("а", "e", "\n\n"))]
        return parameters


def _own_connection(number: int) -> list[tuple[str, int]]:
    """Options that keep gRPC from sharing one connection between channels."""
    return [("grpc.use_local_subchannel_pool", 1), ("grpc.channel_number", number)]
