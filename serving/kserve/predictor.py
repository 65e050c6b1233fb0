"""The KServe predictor: the model that the SDK's server holds, a face of the service.

The SDK's data plane never calls it to predict: its timers, look-ups and conversions around a call cost more than a
short generation does. ``rest/`` and ``grpc/`` call the service themselves.
"""

from __future__ import annotations

import asyncio

from serving.kserve.sdk import Model
from serving.service import TextService


class Predictor(Model):
    """One model of the KServe server. ``load`` has happened before it is made."""

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
        """Take no new requests; REST has drained by now, gRPC calls may still be running."""
        self.service.draining = self.service.closed = True
        self.stopped.set()

    def stop_engine(self) -> None:
        """Do nothing: the engine must outlive the calls that still run on it; its owner closes it."""
