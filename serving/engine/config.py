"""The engine's few dials; everything else is derived from the bundle."""

from typing import Literal

from pydantic import field_validator

from model.settings import Count, Settings, Threads, setting


class EngineConfig(Settings):
    """How one engine uses its machine."""

    slots: Count = setting(64, "Requests decoded together; each slot holds one row of the KV cache.")
    queue: Count = setting(256, "Requests that may wait for a slot; one more is refused as overloaded.")
    prefill_tokens: Count = setting(
        128, "Prompt tokens run per step at most (one prompt always may), so that running streams do not stall."
    )
    threads: Threads = setting(1, "Threads inside one product, for which small models are too small; 0 takes all.")
    spin: bool = setting(
        False, "Let ONNX Runtime's threads spin between products: faster on idle cores, bad on shared ones."
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = setting(
        "auto", "Where to run; auto takes CUDA when it truly works, any other is refused when it does not."
    )
    source_buckets: list[Count] = setting(
        [32, 64, 128, 256], "Lengths that cross-attention is padded to, so that short sources do not pay for long ones."
    )

    @field_validator("source_buckets")
    @classmethod
    def _grow(cls, buckets: list[int]) -> list[int]:
        if not buckets or sorted(set(buckets)) != buckets:
            raise ValueError(f"must be growing lengths of at least 1, not {buckets}")
        return buckets
