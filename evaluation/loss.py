"""Held-out loss of a bundle, teacher-forced through the engine's own decode path.

It is taken as in training (same prompt, the end token counted, over-long pairs left out, running text in consecutive
windows), so it can be laid beside the validation curve: what is left between the two is precision alone.

Beside it stands the unigram entropy of the very tokens that it was measured on: no model that ignores the context,
however well it knows how frequent each token is, can have a lower loss on them. Few tokens only make it stricter.

Legend: nats = summed -log p of the target tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from model.progress import Progress
from model.tokenizer.examples import text_windows
from serving.engine import Engine

Example = tuple[list[int], list[int], int]  # prompt ids, target ids, characters of the target


@dataclass
class _Tally:
    nats: float = 0.0
    tokens: int = 0
    characters: int = 0

    def add(self, nats: float, tokens: int, characters: int) -> None:
        self.nats, self.tokens = self.nats + nats, self.tokens + tokens
        self.characters += characters

    def per_token(self) -> float:
        return self.nats / self.tokens if self.tokens else math.nan


def pair_examples(engine: Engine, rows: Sequence[dict], source: str, target: str, author_of: Any) -> list[Example]:
    """Translation examples of one direction; pairs beyond the bundle's limits are left out, as in training."""
    eos = engine.tokenizer.eos_id
    targets = engine.tokenizer.encode_batch([row[target] for row in rows])
    examples = []
    for row, ids in zip(rows, targets, strict=True):
        prompt = engine.prompt(row[source], target=target, author=author_of(row))
        if fits(engine, len(prompt), len(ids) + 1):
            examples.append((prompt, [*ids, eos], len(row[target])))
    return examples


def text_examples(engine: Engine, rows: Sequence[dict]) -> list[Example]:
    """Running text in consecutive windows of the network's size; each token is predicted once."""
    tokenizer, size = engine.tokenizer, min(engine.limits.max_new_tokens, engine.limits.context - 1)
    examples = []
    for row in rows:
        windows = list(text_windows(tokenizer, tokenizer.encode(row["text"]), size))
        predicted = sum(len(window.answer) for window in windows)
        for window in windows:
            share = len(window.answer) / predicted
            examples.append((window.prompt, window.answer, round(share * len(row["text"]))))
    return examples


def measure_loss(engine: Engine, groups: dict[str, list[Example]], label: str) -> dict[str, Any]:
    """Loss of each group ("ru-en", "en-ru" or "text") and of all of them together.

    Returns:
        ``{"loss": nats per token, "perplexity", "bits_per_character", "loss_tokens",
        "losses": {group: loss}, "unigram_entropies": {group: nats per token}}``;
        NaN where there was nothing to measure, which no gate passes.
    """
    progress = Progress(label, sum(len(target) for rows in groups.values() for _, target, _ in rows))
    total, losses = _Tally(), {}
    for name, examples in groups.items():
        mine = _Tally()
        ordered = sorted(examples, key=lambda example: len(example[1]))
        for start in range(0, len(ordered), 128):
            batch = ordered[start : start + 128]
            scores = engine.score([prompt for prompt, _, _ in batch], [target for _, target, _ in batch])
            for nats, (_, target, characters) in zip(scores, batch, strict=True):
                for tally in (mine, total):
                    tally.add(nats, len(target), characters)
            progress.advance(sum(len(target) for _, target, _ in batch), f"loss {name}")
        losses[name] = mine.per_token()
    loss = total.per_token()
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.nan,
        "bits_per_character": total.nats / math.log(2) / total.characters if total.characters else math.nan,
        "loss_tokens": total.tokens,
        "losses": losses,
        "unigram_entropies": {
            name: unigram_entropy(token for _, target, _ in examples for token in target)
            for name, examples in groups.items()
        },
    }


def unigram_entropy(tokens: Iterable[int]) -> float:
    """Entropy in nats per token of how often each token occurs; NaN where there is none."""
    counts = Counter(tokens)
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values()) if total else math.nan


def fits(engine: Engine, prompt_tokens: int, target_tokens: int) -> bool:
    """Whether a prompt and a target fit the engine's limits; in a decoder they share one context."""
    limits = engine.limits
    if limits.context and prompt_tokens + target_tokens > limits.context:
        return False
    return prompt_tokens <= limits.max_prompt_tokens and target_tokens <= limits.max_new_tokens
