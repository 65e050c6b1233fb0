"""How many requests get the same tokens in company as alone: the promise of exact batches, counted on a real bundle.

With fp32 it has to be all of them, which the tests hold; for int8 the graphs are built to the same end, and this
measures it on the hardware and the bundle at hand.

    agreement(engine, [engine.prompt(text, target="ru") for text in texts])["identical"]
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

from serving.engine.engine import Engine
from serving.engine.generation import GenerationRequest


def agreement(engine: Engine, prompts: Seq[list[int]], max_tokens: int = 64) -> dict[str, Any]:
    """Run each prompt greedily alone and then all together, in as many slots as the engine has.

    The engine must have nothing else to do meanwhile: "alone" would not be.

    Returns:
        ``requests``; ``identical``, how many got the same tokens; ``tokens`` generated alone; ``same_tokens``, how many
        of them came before the first difference; ``differing``, the indices of prompts with a difference; ``outputs``,
        the token ids that each prompt got in company.
    """
    room = engine.limits.room
    requests = [GenerationRequest(ids, max_tokens=min(max_tokens, room(len(ids)))) for ids in prompts]
    alone = [engine.generate([request])[0].token_ids for request in requests]
    together = [result.token_ids for result in engine.generate(requests)]
    same = [common(a, b) for a, b in zip(alone, together, strict=True)]
    differing = [i for i, (a, b) in enumerate(zip(alone, together, strict=True)) if a != b]
    return {
        "requests": len(requests),
        "identical": len(requests) - len(differing),
        "tokens": sum(map(len, alone)),
        "same_tokens": sum(same),
        "differing": differing,
        "outputs": together,
    }


def common(left: list[int], right: list[int]) -> int:
    """Length of the beginning that two lists share."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))
