"""The serving engine: ONNX Runtime sessions, slots of KV cache, continuous batching, sampling. It knows no HTTP.

Legend of all files here: B slots of one run, N all slots, W beams, S prompt tokens, L source tokens, T cache tokens, K
key/value heads, h head width, V vocabulary.
"""

from serving.engine.config import EngineConfig
from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest, GenerationResult, TokenEvent, TokenLogprobs

__all__ = ["Engine", "EngineConfig", "GenerationRequest", "GenerationResult", "TokenEvent", "TokenLogprobs"]
