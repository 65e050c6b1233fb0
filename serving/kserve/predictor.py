"""The KServe predictor: the model that the SDK's server holds, and what v2 over REST and over gRPC share.

``predict`` is called by our own adapters (in ``rest/`` and ``grpc/``), not by the SDK's data plane, whose
timers, look-ups and conversions around it cost more than a short generation does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from serving.engine import GenerationResult
from serving.errors import InvalidRequest
from serving.kserve.sdk import Model
from serving.parameters import number
from serving.service import TextRequest, TextService
from serving.v2 import INPUT, OUTPUTS, VERSION, Call


class Predictor(Model):
    """One model of the KServe server. ``load`` has happened before it is made: it is only a face of the service."""

    def __init__(self, service: TextService) -> None:
        super().__init__(service.config.model_name)
        self.service = service
        self.ready = service.ready
        self.engine = True  # makes ModelServer run start_engine beside its servers
        self.stopped = asyncio.Event()

    def load(self) -> bool:
        """Do nothing: KServe calls this inside the event loop whenever a request finds the model not ready."""
        return self.service.ready

    async def healthy(self) -> bool:
        """Whether requests should be sent here."""
        return self.service.ready

    async def start_engine(self) -> None:
        """Stay until :meth:`stop`: ModelServer ends when all its coroutines have."""
        await self.stopped.wait()

    def start(self) -> None:
        """Do nothing: KServe's default would claim readiness."""

    def stop(self) -> None:
        """Take no new requests. KServe calls this when REST has drained, while gRPC calls may still be running."""
        self.service.draining = self.service.closed = True
        self.stopped.set()

    def stop_engine(self) -> None:
        """Do nothing: the engine must outlive the calls that still run on it; server.py closes it."""

    def get_input_types(self) -> list[dict]:
        """The input tensor, for model metadata."""
        return [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict]:
        """The output tensors, for model metadata."""
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()]

    def server_metadata(self) -> dict[str, Any]:
        """The v2 server metadata. KServe's own claims a repository extension, which is closed here."""
        return {"name": "prometheus-mini", "version": VERSION, "extensions": ["binary_tensor_data"]}

    def metadata(self) -> dict[str, Any]:
        """The v2 model metadata."""
        bundle = self.service.bundle
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": f"onnxruntime_{bundle.family}_{bundle.precision}",
            "inputs": self.get_input_types(),
            "outputs": self.get_output_types(),
        }

    async def predict(self, payload: Call, headers: dict[str, str] | None = None) -> list[GenerationResult]:
        """Answer one v2 call.

        Raises:
            ServingError: with ``n`` among them, for which v2 has no place: one element goes in, one comes out.
        """
        parameters = dict(payload.parameters)
        samples = parameters.pop("n", None)
        if samples is not None and number("n", samples, int) != 1:
            message = "v2 returns one output for each input; send the text several times, or use /generate"
            raise InvalidRequest("n", message)
        return await self.service.complete(TextRequest(payload.texts, parameters, names={"text": INPUT}))
