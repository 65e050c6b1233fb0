"""The engine's few dials; everything else is derived from the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.config import ConfigError, option


@dataclass(frozen=True)
class EngineConfig:
    """How one engine uses its machine."""

    slots: int = option(64, "Requests decoded together; each slot holds one row of the KV cache.")
    queue: int = option(256, "Requests that may wait for a slot; one more is refused as overloaded.")
    prefill_tokens: int = option(
        128, "Prompt tokens run per step at most (one prompt always may), so that running streams do not stall."
    )
    threads: int = option(
        1, "Threads inside one matrix product, for which small models are too small; 0 takes all processors."
    )
    spin: bool = option(
        False, "Let ONNX Runtime's threads spin between products: faster on idle cores, bad on shared ones."
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = option(
        "auto", "Where to run; auto takes CUDA when it truly works, any other is refused when it does not."
    )
    source_buckets: list[int] = option(
        [32, 64, 128, 256], "Lengths that cross-attention is padded to, so that short sources do not pay for long ones."
    )

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, not {getattr(self, name)}"
            for name in ("slots", "queue", "prefill_tokens")
            if getattr(self, name) < 1
        ]
        if self.threads < 0:
            problems.append(f"threads must be 0 or more, not {self.threads}")
        buckets = self.source_buckets
        if not buckets or sorted(set(buckets)) != list(buckets) or buckets[0] < 1:
            problems.append(f"source_buckets must be growing lengths of at least 1, not {buckets}")
        if problems:
            raise ConfigError("\n".join(problems))
