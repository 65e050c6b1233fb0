"""gRPC: KServe's v2 service on KServe's messages, every call of it answered here.

The SDK's own server takes no access token, reads its limit on messages from the command line alone, answers bytes that
are no message with the text of an exception, unknown calls with "Method not found!", and logs a stack trace for each.

    server = GrpcServer(service, token=None)
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from serving import v2
from serving.auth import BearerToken
from serving.engine import GenerationResult
from serving.errors import BodyTooSlow, InvalidRequest, NotServed, PermissionDenied, ServingError, public
from serving.grpc.messages import grpc_response, read_grpc
from serving.grpc.peers import Peers, open_connections, stop_listening
from serving.grpc.streams import STREAM, Streams
from serving.kserve.sdk import pb
from serving.listeners import grpc_addresses, refused
from serving.logs import request_line
from serving.readers import LAST_WORDS
from serving.service import TextService

log = logging.getLogger("serving.rpc")
SERVICE = "/inference.GRPCInferenceService/"
PROBES = ("ServerLive", "ServerReady")  # open to callers without a token
INFER = "ModelInfer"
# Share of the drain after which a connection has to be a new one: all that were open at its begin have gone before it
# ends, and a proxy may lead a client here for a moment longer.
GOAWAY = 0.6
JITTER = 0.1  # by so much more or less gRPC draws each connection's age
AT_ONCE = 100  # calls that one connection may always have at once, as HTTP/2 recommends
SHOWN = 100  # characters of a caller's method name that a message or log line repeats

Method = Callable[[Any], Message]


class GrpcServer(grpc.GenericRpcHandler):
    """Finds and makes the call that a client asks for; refuses those that it may not make or that are not there.

    Args:
        token: what callers must send; None when the server is open.
    """

    def __init__(self, service: TextService, token: BearerToken | None) -> None:
        self._service, self._token = service, token
        self._server: aio.Server | None = None
        self._peers = Peers(service)
        engine = service.engine.config
        # gRPC holds an answer for a client that takes none; further calls wait on the client's side.
        self._at_once = max(AT_ONCE, engine.slots + engine.queue)
        self._streams = Streams(service, self._at_once)
        self._handlers = {
            # For a unary handler gRPC awaits the message itself, for as long as the client likes.
            name: grpc.stream_unary_rpc_method_handler(self._answer(name, message, method))
            for name, (message, method) in self._methods().items()
        }
        self._handlers[STREAM] = grpc.stream_stream_rpc_method_handler(self._streams.answer)

    async def serve(self) -> None:
        """Serve until :meth:`stop`."""
        config = self._service.config
        lifetime = config.receive_timeout + config.request_timeout + LAST_WORDS
        options = [
            ("grpc.max_receive_message_length", config.max_body_bytes),
            ("grpc.server_handshake_timeout_ms", _milliseconds(config.receive_timeout)),  # up to the first settings
            ("grpc.max_connection_idle_ms", _milliseconds(config.idle_timeout)),  # half a call's head is no call yet
            # Only a GOAWAY by age lets calls through that cross it; stop() fails them. So every connection is sent away
            # now and then, and all of them within a drain: clients connect anew, and a proxy then leads them elsewhere.
            ("grpc.max_connection_age_ms", _milliseconds(GOAWAY * config.drain_delay or math.inf)),
            # What still runs then gets all the time that a call may take; who has not read its answer by then is cut.
            ("grpc.max_connection_age_grace_ms", _milliseconds(lifetime)),
            ("grpc.max_concurrent_streams", self._at_once),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not half of the calls
        ]
        self._server = aio.server(options=options)
        self._server.add_generic_rpc_handlers((self,))
        for address in grpc_addresses(config):
            try:
                self._server.add_insecure_port(address)
            except RuntimeError:  # its text is gRPC's own log
                raise refused(config, "grpc_port", "taken meanwhile") from None
        await self._server.start()
        await self._server.wait_for_termination()

    def connections(self) -> int:
        """How many are open."""
        return open_connections(self._service.config.grpc_port)

    def drain(self) -> None:
        """End each stream with what it has taken."""
        self._streams.drain()

    def leave(self) -> float:
        """Take no new connections; seconds after which every open one has been sent away, with nothing lost."""
        stop_listening(self._service.config.grpc_port)
        return GOAWAY * self._service.config.drain_delay * (1 + JITTER) + 0.5

    async def stop(self, grace: float) -> None:
        """Take no more calls and finish those that run, within ``grace`` seconds."""
        if self._server is not None:
            await self._server.stop(grace)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of one call."""
        name = handler_call_details.method.removeprefix(SERVICE)
        try:
            if self._token is not None and name not in PROBES:
                metadata = handler_call_details.invocation_metadata or ()
                self._token.check(next((value for key, value in metadata if key == "authorization"), None))
            found = self._handlers.get(name)
            if found is None:
                raise NotServed(f"{name[:SHOWN]} is not served here; {INFER}, {STREAM}, metadata and health are")
        except ServingError as error:
            error_kind = self._service.count_error(error, name, log)
            request_line("grpc", name[:SHOWN], error.code, 0.0, error=error_kind)
            return _refusal(error)
        return found

    def _methods(self) -> dict[str, tuple[type[Message], Method | None]]:
        """Message and method of each call; ``_infer`` is the one that waits."""
        service, served = self._service, self._service.config.model_name

        def model_ready(message: Any) -> Message:
            # Another model is not an error here: Triton's and KServe's clients ask whether it is ready, and it is not.
            known = message.name == served and message.version in ("", v2.VERSION)
            return pb.ModelReadyResponse(ready=known and service.ready)

        def model_metadata(message: Any) -> Message:
            v2.check_model(message.name, message.version, served)
            return pb.ModelMetadataResponse(**v2.model_metadata(service))

        def closed(_: Any) -> Message:
            raise PermissionDenied("the repository API is closed on this server")

        return {
            INFER: (pb.ModelInferRequest, None),
            "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=service.live)),
            "ServerReady": (pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=service.ready)),
            "ModelReady": (pb.ModelReadyRequest, model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, lambda _: pb.ServerMetadataResponse(**v2.server_metadata())),
            "ModelMetadata": (pb.ModelMetadataRequest, model_metadata),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, closed),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, closed),
        }

    async def _infer(self, message: Any, results: list[GenerationResult]) -> Message:
        config = self._service.config
        request = read_grpc(message, config.model_name, config.max_prompts)
        results += await self._service.complete(request.generation)
        return grpc_response(config.model_name, request, results)

    def _answer(self, name: str, kind: type[Message], method: Method | None) -> Callable[..., Awaitable[bytes]]:
        """The method from bytes to bytes; every error as a status and a sentence."""
        service = self._service

        async def answer(messages: AsyncIterator[bytes], context: aio.ServicerContext) -> bytes:
            started, arrived = time.perf_counter(), asyncio.get_running_loop().time()
            results: list[GenerationResult] = []
            if name not in PROBES:
                service.called = time.monotonic()
            code, error_kind = "CANCELLED", ""  # unless it ends otherwise below
            try:
                message = await self._receive(messages, kind)
                reply = method(message) if method else await self._infer(message, results)
                response = reply.SerializeToString()
                code = "OK"
                self._peers.answered(context, len(response), arrived)
                return response
            except Exception as error:
                refusal, error_kind = public(error), service.count_error(error, name, log)
                code = refusal.code
            finally:
                if name == INFER or error_kind:
                    request_line("grpc", name, code, time.perf_counter() - started, results, error_kind)
            await context.abort(grpc.StatusCode[code], str(refusal))
            raise AssertionError("abort raises")

        return answer

    async def _receive(self, messages: AsyncIterator[bytes], kind: type[Message]) -> Message:
        """The one message of a call."""
        limit = self._service.config.receive_timeout
        try:
            async with asyncio.timeout(limit):
                return kind.FromString(await anext(messages))
        except TimeoutError:
            raise BodyTooSlow(f"message: not complete after {limit:g} seconds") from None
        except StopAsyncIteration:
            raise InvalidRequest("message", "is missing") from None
        except DecodeError:
            raise InvalidRequest("message", f"the bytes are no {kind.DESCRIPTOR.name}") from None


def _milliseconds(seconds: float) -> int:
    return int(min(seconds * 1000, 2**31 - 1))  # gRPC's option is 32 bits wide; its greatest is none at all


def _refusal(error: ServingError) -> grpc.RpcMethodHandler:
    """A handler that ends any call, unary or streamed, with an error."""

    async def refuse(_: Any, context: aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode[error.code], str(error))

    return grpc.stream_stream_rpc_method_handler(refuse)
