"""Training: corpus and tokenizer in, checkpoint and curves out."""

from model.training.checkpoint import load_checkpoint

__all__ = ["load_checkpoint", "train"]


def train(*args, **kwargs):  # type: ignore[no-untyped-def]
    """See :func:`model.training.loop.train`; imported late, so that reading a checkpoint does not load torch."""
    from model.training.loop import train as run

    return run(*args, **kwargs)
