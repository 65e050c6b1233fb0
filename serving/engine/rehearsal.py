"""The longest case that a manifest promises, run before anyone asks for it.

A bundle whose graphs were made for fewer positions than ``bundle.json`` says loads, warms up and serves, until the
first long text breaks the engine. So a start runs one prompt of the most tokens that a request may have, and one decode
at the last position of the cache, both with the highest id of the vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.limits import Limits
from serving.engine.runtime import Runtime
from serving.errors import EngineFailed

if TYPE_CHECKING:
    from model.bundle import Bundle


def rehearse(runtime: Runtime, bundle: Bundle, limits: Limits) -> None:
    """Run the longest case for nothing.

    Raises:
        EngineFailed: when the graphs do not run at all, or only less than the manifest promises; naming its field and
            what they can do.
    """
    highest = bundle.vocab_size - 1
    role = "encoder" if runtime.seq2seq else "decoder"
    prompt = np.full(limits.max_prompt_tokens, highest, np.int64)
    _reach(bundle, role, "max_prompt_tokens", len(prompt), lambda size: runtime.rehearse_prompt(prompt[:size]))
    _reach(bundle, "decoder", "max_new_tokens", runtime.cache_tokens, lambda n: runtime.rehearse_step(n - 1, highest))


def _reach(bundle: Bundle, role: str, limit: str, promised: int, run: Callable[[int], None]) -> None:
    reasons: list[str] = []

    def fails(size: int) -> bool:
        try:
            run(size)
            return False
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            reasons.append(str(error))
            return True

    if not fails(promised):
        return
    works = bisect_left(range(1, promised), True, key=fails)
    if not works:
        raise EngineFailed(f"{bundle.path}: the graphs load but do not run: {reasons[0]}")
    raise EngineFailed(
        f"{bundle.path}: bundle.json promises {promised} tokens (limits.{limit} {bundle.limits[limit]}, "
        f"config.max_positions {bundle.config.max_positions}), but the {role} graph runs at most {works}; "
        f"export the bundle again. ONNX Runtime says: {reasons[0]}"
    )
