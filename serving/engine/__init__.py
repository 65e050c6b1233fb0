"""The serving engine: ONNX Runtime sessions, slots of KV cache, continuous batching, sampling. It knows no HTTP."""

from serving.engine.config import EngineConfig
from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest, GenerationResult, TokenEvent, TokenLogprobs

__all__ = ["Engine", "EngineConfig", "GenerationRequest", "GenerationResult", "TokenEvent", "TokenLogprobs"]
