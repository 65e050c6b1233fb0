"""ModelStreamInfer as a client of a service that is rolled out speaks it, and its responses put together.

with grpc.insecure_channel(address) as channel:
    text = joined(KeptStream(channel).ask(request))["text_output"][0]
"""

from __future__ import annotations

import queue
import struct
from collections.abc import Sequence
from typing import Any

import grpc

from serving.grpc.messages import FINAL, StreamResponse
from serving.grpc.streams import UNANSWERED
from serving.kserve.sdk import pb

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


class KeptStream:
    """One stream, its requests one after another; a new one where the server has ended it between two answers.

    A request that was on its way just then has no response, and the stream's end says that it was never looked at: it
    is sent again, as gRPC itself does with a call in that case. Whatever else keeps a request from its last response
    is an error.

    gRPC's client for asyncio would not do: a message that meets the end of its stream makes it INTERNAL.

    Args:
        seconds: how long one stream may last.

    Attributes:
        opened: streams so far.
        resent: requests that were sent again.
    """

    def __init__(
        self, channel: grpc.Channel, metadata: Sequence[tuple[str, str]] = (), seconds: float | None = None
    ) -> None:
        self._method = channel.stream_stream(STREAM, response_deserializer=StreamResponse.FromString)
        self._metadata, self._seconds = metadata, seconds
        self._call: Any = None
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.opened = self.resent = 0

    def ask(self, request: bytes) -> list[Any]:
        """The responses to a request, as ModelInferResponse.

        Raises:
            grpc.RpcError: when the stream breaks off, or is refused.
            AssertionError: when the request is answered by an error, or the stream ends too early.
        """
        while True:
            if self._call is None or not self._call.is_active():
                self._open()
            self._requests.put(request)
            responses: list[Any] = []
            try:
                for response in self._call:
                    assert not response.error_message, response.error_message
                    responses.append(response.infer_response)
                    if responses[-1].parameters[FINAL].bool_param:
                        return responses
                raise AssertionError(f"the stream ended after {len(responses)} responses to a request")
            except grpc.RpcError as error:
                if responses or not never_looked_at(error):
                    raise
                self.resent += 1

    def close(self) -> None:
        """Leave, whatever is under way."""
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()

    def _open(self) -> None:
        self.close()
        self._requests = queue.SimpleQueue()
        self._call = self._method(iter(self._requests.get, None), timeout=self._seconds, metadata=self._metadata)
        self.opened += 1


def never_looked_at(error: Any) -> bool:
    """Whether the server says of a stream that it has ended that nothing is lost."""
    return error.code() == grpc.StatusCode.UNAVAILABLE and UNANSWERED in tuple(error.trailing_metadata() or ())


def joined(responses: Sequence[Any]) -> dict[str, list[Any]]:
    """The outputs of a request's responses as those of an answer that comes whole: its pieces of text joined."""
    whole: dict[str, list[Any]] = {}
    for response in responses:
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
            (count,) = output.shape
            values = list(struct.unpack(f"<{count}i", raw)) if output.datatype == "INT32" else texts_of(raw)
            assert len(values) == count
            if output.name == "text_output" and output.name in whole:
                values = [before + new for before, new in zip(whole[output.name], values, strict=True)]
            whole[output.name] = values
    return whole


def texts_of(raw: bytes) -> list[str]:
    """The elements of a BYTES tensor."""
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def named(request: bytes, request_id: str) -> bytes:
    """A request with an id."""
    message = pb.ModelInferRequest.FromString(request)
    message.id = request_id
    return message.SerializeToString()
