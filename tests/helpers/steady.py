"""Clients that call a served model all the time, while something happens to it: does a single call fail?

Half of the REST clients keep their connections, half make a new one for each call; every fifth call is a stream. gRPC
clients have one stream each, with one request after another, and open a new one when the server ends it between two
answers. Nothing is asked again, unless ``retries`` says so, but what a server has refused to look at with its stream's
end; gRPC does so by itself with calls.

with Load(Target("10.96.0.7", 80)) as load: roll_out()
assert not load.failed
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.load.client import JSON, Client, StatusError
from benchmarks.load.messages import infer_request
from tests.helpers.triton_streams import KeptStream

MODEL = "prometheus-mini"
BODY = {"prompt": "Привет!", "target": "en", "max_tokens": 6}
STREAM_EVERY = 5
ASK_AGAIN = (502, 503, 504)  # what a gateway answers for a server that it does not reach
CALL_SECONDS = 60.0
Failure = tuple[float, str, str]  # seconds since the load began, which client, what happened


@dataclass(frozen=True)
class Target:
    """Where the model is called; ``authority`` is the Host that a gateway routes by, ``token`` a bearer token."""

    host: str
    port: int
    grpc_port: int = 0
    authority: str = ""
    token: str = ""

    def headers(self) -> dict[str, str]:
        """The headers of a REST call."""
        return {**JSON, **({"authorization": f"Bearer {self.token}"} if self.token else {})}


@dataclass
class Load:
    """So many clients of each kind, from ``with`` to its end; ``pause`` is seconds between two calls of a client.

    Attributes:
        to_the_end: whether REST calls take all of ``max_tokens``, whatever the model thinks that its text needs.
        made: calls that got a whole, right answer, by kind of client.
        failed: the others.
        again: calls that were made again after a broken connection, with ``retries`` only.
        resent: requests on a gRPC stream that were never looked at, and sent again on a new one.
        runs: answers of ``/info`` by the run id they name, in the order in which they first came.
    """

    target: Target
    kept: int = 25
    new: int = 25
    rpc: int = 4
    pause: float = 0.25
    retries: int = 0
    max_tokens: int = 6
    to_the_end: bool = False
    made: Counter[str] = field(default_factory=Counter)
    failed: list[Failure] = field(default_factory=list)
    again: list[Failure] = field(default_factory=list)
    resent: int = 0
    runs: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self._started = time.monotonic()
        self._broken: list[BaseException] = []

    def __enter__(self) -> Load:
        self._started = time.monotonic()
        self._thread.start()
        self.more(2 * (self.kept + self.new + self.rpc))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(CALL_SECONDS + 10)
        assert not self._thread.is_alive(), "a client of the load hangs"

    def more(self, calls: int, seconds: float = 60) -> None:
        """Wait for so many more calls, failed ones counted."""
        goal, end = self.made.total() + len(self.failed) + calls, time.monotonic() + seconds
        while self.made.total() + len(self.failed) < goal:
            assert time.monotonic() < end and self._thread.is_alive(), f"the load stands still: {self.facts()}"
            time.sleep(0.05)

    def facts(self) -> dict[str, Any]:
        """What happened, for the record."""
        told = Counter(f"{kind}: {words}" for _, kind, words in self.failed)
        again = Counter(f"{kind}: {words}" for _, kind, words in self.again)
        return {
            "calls": dict(sorted(self.made.items())),
            "failed": len(self.failed),
            **({"failures": dict(told.most_common(8))} if told else {}),
            **({"asked_again": len(self.again), "reasons": dict(again.most_common(8))} if self.retries else {}),
            **({"resent": self.resent} if self.resent else {}),
            **({"answered_by": dict(self.runs)} if self.runs else {}),
        }

    # -- the clients -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        clients = [self._rest("kept", number) for number in range(self.kept)]
        clients += [self._rest("new", number) for number in range(self.new)]
        if self.target.grpc_port and self.rpc:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(self.rpc + 4))
            clients += [self._rpc(number) for number in range(self.rpc)]
        await asyncio.gather(self._who_answers(), *clients)

    async def _calls(self, kind: str, number: int, call: Callable[[int], Awaitable[None]]) -> None:
        """Make calls until the end; ``call`` gets the number of its call."""
        await asyncio.sleep(self.pause * (number % 10) / 10)
        for count in itertools.count(number):
            if self._over.is_set():
                return
            for attempt in range(self.retries + 1):
                try:
                    await asyncio.wait_for(call(count), CALL_SECONDS)
                    self.made[kind] += 1
                    break
                except (OSError, StatusError, TimeoutError, grpc.RpcError, AssertionError) as error:
                    told = (round(time.monotonic() - self._started, 2), kind, _words(error))
                    if attempt == self.retries or not _is_broken(error):
                        self.failed.append(told)
                        break
                    self.again.append(told)
                    await asyncio.sleep(0.1 * 2**attempt)
            await asyncio.sleep(self.pause)

    async def _rest(self, kind: str, number: int) -> None:
        target = self.target
        connection = Client(target.host, target.port, target.authority, chunked=bool(target.authority))

        async def call(count: int) -> None:
            if kind == "new":
                connection.abort()
            try:
                if count % STREAM_EVERY == 0:
                    await self._stream(connection)
                    return
                body = json.dumps({**BODY, "max_tokens": self.max_tokens, "ignore_eos": self.to_the_end}).encode()
                status, answer = await connection.call("POST", "/generate", body, target.headers())
                if status != 200:
                    raise StatusError(status, answer)
                assert "text" in json.loads(answer), f"answered {answer[:100]!r}"
            except BaseException:
                connection.abort()
                raise

        await self._calls(f"REST, {'kept' if kind == 'kept' else 'new'} connections", number, call)
        connection.abort()

    async def _stream(self, connection: Client) -> None:
        body = json.dumps({"model": MODEL, "stream": True, **BODY, "max_tokens": self.max_tokens}).encode()
        events = [
            event async for event in connection.events("/openai/v1/completions", body, self.target.headers()) if event
        ]
        assert events and events[-1] == b"[DONE]", f"a stream ended by {events[-1:]}"

    async def _rpc(self, number: int) -> None:
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if self.target.authority:
            options.append(("grpc.default_authority", self.target.authority))
        metadata = [("authorization", f"Bearer {self.target.token}")] if self.target.token else []
        address = f"{self.target.host}:{self.target.grpc_port}"
        request = infer_request(MODEL, BODY["prompt"], {"target": "en", "max_tokens": self.max_tokens})
        with grpc.insecure_channel(address, options) as channel:
            stream = KeptStream(channel, metadata, 2 * CALL_SECONDS)

            async def call(_: int) -> None:
                try:
                    await asyncio.to_thread(stream.ask, request)
                except BaseException:
                    stream.close()
                    raise

            await self._calls("gRPC streams", number, call)
            stream.close()
            self.resent += stream.resent

    async def _who_answers(self) -> None:
        """Which run answers, by a new connection, four times a second; what fails here the others fail at too."""
        while not self._over.is_set():
            async with Client(self.target.host, self.target.port, self.target.authority) as client:
                try:
                    call = client.call("GET", "/info", headers=self.target.headers())
                    status, body = await asyncio.wait_for(call, CALL_SECONDS)
                    if status == 200:
                        self.runs[json.loads(body)["bundle"]["run_id"]] += 1
                except (OSError, TimeoutError, ValueError, KeyError):
                    pass
            await asyncio.sleep(0.25)


def _words(error: BaseException) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"[:200]


def _is_broken(error: BaseException) -> bool:
    """Whether a client that may ask twice would: nobody answered, rather than somebody said no."""
    if isinstance(error, grpc.Call):
        return error.code() == grpc.StatusCode.UNAVAILABLE
    return isinstance(error, OSError) or (isinstance(error, StatusError) and error.status in ASK_AGAIN)
