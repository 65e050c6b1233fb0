"""Training: corpus and tokenizer in, checkpoint and curves out."""

from pathlib import Path
from typing import Any

from model.config import NetworkConfig, TrainingConfig
from model.training.checkpoint import load_checkpoint

__all__ = ["load_checkpoint", "train"]


def train(
    corpus: str | Path, tokenizer: str | Path, out: str | Path, network: NetworkConfig, config: TrainingConfig
) -> dict[str, Any]:
    """See :func:`model.training.loop.train`; imported late, so that reading a checkpoint does not load torch."""
    from model.training.loop import train as run

    return run(corpus, tokenizer, out, network, config)
