"""Held-out loss of a bundle, teacher-forced through the engine's own decode path.

It is taken as in training (same prompt, the end token counted, over-long pairs left out, running text in consecutive
windows), so it can be laid beside the validation curve: what is left between the two is precision alone.

Beside it stands the unigram entropy of the very tokens that it was measured on: no model that ignores the context,
however well it knows how frequent each token is, can have a lower loss on them. Few tokens only make it stricter.

Legend: nats = summed -log p of the target tokens.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from evaluation.prompts import directions, translation_prompt
from model.progress import Progress
from model.tokenizer.prompt import text_windows
from serving.engine import Engine


class Example(NamedTuple):
    """A target whose tokens are predicted one by one after a prompt."""

    prompt: list[int]
    target: list[int]
    characters: int  # of the target's text


def loss_examples(engine: Engine, rows: Sequence[dict[str, str]]) -> dict[str, list[Example]]:
    """Of each direction ("ru-en" and "en-ru"), or of running text ("text")."""
    ways = directions(engine.bundle)
    return {f"{s}-{t}": list(_pairs(engine, rows, s, t)) for s, t in ways} or {"text": list(_windows(engine, rows))}


def _pairs(engine: Engine, rows: Sequence[dict[str, str]], source: str, target: str) -> Iterator[Example]:
    """Translations; pairs beyond the bundle's limits are left out, as in training."""
    eos, limits = engine.tokenizer.eos_id, engine.limits
    targets = engine.tokenizer.encode_batch([row[target] for row in rows])
    for row, ids in zip(rows, targets, strict=True):
        prompt = translation_prompt(engine, row, source, target)
        if len(prompt) <= limits.max_prompt_tokens and len(ids) < limits.room(len(prompt)):  # the end token fits too
            yield Example(prompt, [*ids, eos], len(row[target]))


def _windows(engine: Engine, rows: Sequence[dict[str, str]]) -> Iterator[Example]:
    """Running text in consecutive windows of the network's size; each token is predicted once."""
    tokenizer, size = engine.tokenizer, engine.limits.room(1)
    for row in rows:
        windows = list(text_windows(tokenizer, tokenizer.encode(row["text"]), size))
        predicted = sum(len(window.answer) for window in windows)
        for window in windows:
            share = len(window.answer) / predicted
            yield Example(window.prompt, window.answer, round(share * len(row["text"])))


def measure_loss(engine: Engine, groups: dict[str, list[Example]], label: str) -> dict[str, Any]:
    """Loss of each group ("ru-en", "en-ru" or "text") and of all of them together.

    Returns:
        The fields of an Evaluation from ``loss`` to ``unigram_entropies``; NaN where there was nothing to measure,
        which no gate passes.
    """
    tokens = {name: [token for example in examples for token in example.target] for name, examples in groups.items()}
    count = sum(map(len, tokens.values()))
    characters = sum(example.characters for examples in groups.values() for example in examples)
    progress = Progress(label, count)
    nats = {name: _nats(engine, examples, progress, f"loss {name}") for name, examples in groups.items()}
    total = sum(chain.from_iterable(nats.values()))
    loss = _share(total, count)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.nan,
        "bits_per_character": _share(total / math.log(2), characters),
        "loss_tokens": count,
        "losses": {name: _share(sum(nats[name]), len(tokens[name])) for name in groups},
        "unigram_entropies": {name: unigram_entropy(tokens[name]) for name in groups},
    }


def _nats(engine: Engine, examples: Sequence[Example], progress: Progress, what: str) -> list[float]:
    """Of each example; the short ones come first, for examples of like length share a step's work."""
    found = []
    ordered = sorted(examples, key=lambda example: len(example.target))
    for start in range(0, len(ordered), 128):
        batch = ordered[start : start + 128]
        found += engine.score([example.prompt for example in batch], [example.target for example in batch])
        progress.advance(sum(len(example.target) for example in batch), what)
    return found


def _share(total: float, parts: int) -> float:
    return total / parts if parts else math.nan


def unigram_entropy(tokens: Iterable[int]) -> float:
    """Entropy in nats per token of how often each token occurs; NaN where there is none."""
    counts = Counter(tokens)
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values()) if total else math.nan
