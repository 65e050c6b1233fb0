"""What a network in training makes of the validation split: greedy translations, and their chrF.

The serving engine does this faster and on every variant, but from an exported graph; between two steps of training the
few rows that tell one validation from another are translated here, with the weights as they are. The source is encoded
once; the decoder reads the whole prefix for each token, which for its few layers costs less than it takes to write.

Legend: B rows, L source tokens, S tokens of a translation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from model.network import Transformer
from model.tokenizer import Tokenizer
from model.training.batches import Batch

LENGTH = 2  # a translation ends at so many times the tokens of the widest reference beside it


@torch.no_grad()
def translate(network: Transformer, tokenizer: Tokenizer, source: torch.Tensor, most: int) -> list[list[int]]:
    """Greedy translations of prompts i64 [B, L], of at most ``most`` ids each; without the one that ends them."""
    never_said = [number for number in range(len(tokenizer.control_tokens)) if number != tokenizer.eos_id]
    memory, mask = network.encode(source)
    translations: list[list[int]] = [[] for _ in source]
    rows = torch.arange(len(source), device=source.device)  # of those that have not ended
    ids = torch.full((len(source), 1), tokenizer.bos_id, device=source.device)
    while len(rows) and ids.shape[1] <= most:
        logits = F.linear(network.decode(ids, memory, mask)[:, -1], network.embedding.weight)
        logits[:, never_said] = -torch.inf
        said = logits.argmax(-1)
        goes_on = said != tokenizer.eos_id
        rows, said = rows[goes_on], said[goes_on]
        ids, memory, mask = torch.cat([ids[goes_on], said[:, None]], 1), memory[goes_on], mask[goes_on]
        for row, token in zip(rows.tolist(), said.tolist(), strict=True):
            translations[row].append(token)
    return translations


def references(batch: Batch) -> list[list[int]]:
    """The ids of each example's target, without the one that ends it; nothing for the rows that only fill a batch."""
    width = batch.inputs.shape[1]
    targets: dict[int, list[int]] = {}
    for place, label in zip(batch.places.tolist(), batch.labels.tolist(), strict=True):
        targets.setdefault(place // width, []).append(label)
    return [ids[:-1] for ids in targets.values()]


def chrf(network: Transformer, tokenizer: Tokenizer, batches: Sequence[Batch]) -> float:
    """chrF of the greedy translations of all examples in batches of the CPU, by a network in eval mode."""
    from sacrebleu.metrics import CHRF  # here: a machine that only trains may lack it (benchmarks/gpu/needed.py)

    hypotheses: list[list[int]] = []
    targets: list[list[int]] = []
    for batch in batches:
        assert batch.source is not None, "a network without an encoder is not asked"
        here = references(batch)
        most = min(network.config.max_positions, LENGTH * batch.inputs.shape[1])
        hypotheses += translate(network, tokenizer, batch.source[: len(here)].to(network.embedding.weight.device), most)
        targets += here
    told, meant = ([tokenizer.decode(ids) for ids in side] for side in (hypotheses, targets))
    return float(CHRF().corpus_score(told, [meant]).score)
