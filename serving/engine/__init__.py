"""The serving engine: ONNX Runtime sessions, KV cache rows, continuous batching, sampling. It knows no HTTP."""

from serving.engine.config import EngineConfig
from serving.engine.engine import Engine
from serving.engine.observer import Observer
from serving.engine.request import GenerationRequest, GenerationResult, Handle, Limits, TokenEvent, TokenLogprobs

__all__ = [
    "Engine",
    "EngineConfig",
    "GenerationRequest",
    "GenerationResult",
    "Handle",
    "Limits",
    "Observer",
    "TokenEvent",
    "TokenLogprobs",
]
