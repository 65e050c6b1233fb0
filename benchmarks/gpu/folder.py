"""What a GPU machine is given: text as tokens, with its tokenizer and settings; small enough to be carried there.

settings.json      the profile's network and training, and the code that prepared it
corpus.json        the corpus's card
valid.jsonl.zst    the rows to validate on
tokenizer/
tokens/            the train split (model/training/tokens.py), in place of its shards
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.machine import BenchmarkError
from model.config import NetworkConfig, TrainingConfig, from_dict, to_dict
from model.files import replace_directory, write_json

if TYPE_CHECKING:
    from model.training.batches import Examples
    from model.training.loop import Trainer

FORMAT_VERSION = 1
SETTINGS, CARD, TOKENIZER, TOKENS = "settings.json", "corpus.json", "tokenizer", "tokens"
# On a CPU the same code is rehearsed, with a network that does it in seconds.
REHEARSED = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "kv_heads": 1, "d_ff": 128}
REHEARSED_TOKENS = 1024  # of a batch


class Prepared(NamedTuple):
    """A folder that :func:`prepare` has made, and what is to be trained with it."""

    folder: Path
    profile: str
    network: NetworkConfig
    training: TrainingConfig

    def examples(self, work: Path, **changes: Any) -> Examples:
        """Its batches; ``work`` gets a copy of the tokens, which training removes at its end."""
        from model.tokenizer import load_tokenizer
        from model.training.batches import Examples

        config = self.training.model_copy(update=changes)
        return Examples(self._staged(work), load_tokenizer(self.folder / TOKENIZER), self.network, config, work=work)

    def trainer(self, work: Path, **changes: Any) -> Trainer:
        """A new network and its optimisers, by the product's own trainer, with training's settings changed."""
        from model.training.loop import Trainer

        return Trainer(self.examples(work, **changes), work)

    def train(self, work: Path, dropout: float = 0.0, **changes: Any) -> dict[str, Any]:
        """What the product's own training says of itself at its end; it goes on where ``work`` has its checkpoints."""
        from model.training.loop import train

        network = self.network.model_copy(update={"dropout": dropout or self.network.dropout})
        config = self.training.model_copy(update=changes)
        return train(self._staged(work), self.folder, self.folder / TOKENIZER, work, network, config)

    def _staged(self, work: Path) -> Path:
        if not (work / TOKENS).exists():
            shutil.copytree(self.folder / TOKENS, work / TOKENS)
        return self.folder


def prepare(sources: Sequence[str], profile: str, max_rows: int, out: Path) -> dict[str, Any]:
    """Make the folder ``out`` of a profile's settings and of text, or of the profile's own; what it holds.

    Raises:
        BenchmarkError: where something else is in the folder's place.
        CorpusError, ConfigError: where the text or the profile cannot be used.
    """
    from model.corpus import prepare_corpus
    from model.corpus.storage import SUFFIX
    from model.tokenizer import load_tokenizer
    from model.tokenizer.train import train_tokenizer
    from model.training.batches import Examples
    from pipelines.provenance import code_version
    from pipelines.request import load_profile

    if out.exists() and not (out / SETTINGS).is_file():
        raise BenchmarkError(f"{out}: is there and was not prepared for a GPU; name another folder, or remove it")
    read = load_profile(profile, [f"corpus.max_rows={max_rows}"] if max_rows else [])

    def fill(partial: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
            corpus = Path(scratch) / "corpus"
            card = prepare_corpus([*sources], [], corpus, read.corpus)
            train_tokenizer(corpus, partial / TOKENIZER, read.tokenizer)
            examples = Examples(corpus, load_tokenizer(partial / TOKENIZER), read.network, read.training, work=partial)
            next(examples.train_batches())  # tokenises all that there is
            for name in (CARD, f"valid{SUFFIX}"):
                shutil.copyfile(corpus / name, partial / name)
        settings = {
            "format_version": FORMAT_VERSION,
            "profile": read.name,
            "network": to_dict(read.network),
            "training": to_dict(read.training),
            "code_version": code_version(),
        }
        write_json(partial / SETTINGS, settings)
        return card["counts"]

    with contextlib.redirect_stdout(sys.stderr):
        counts = replace_directory(out, fill)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"rows": counts["train"], "validation_rows": counts["valid"], "bytes": size}


def opened(folder: Path, device: str) -> Prepared:
    """A folder that was prepared; on a CPU with a network for rehearsals.

    Raises:
        BenchmarkError: where it is not one, or not whole.
    """
    where = f"{folder / SETTINGS}: "
    try:
        settings = json.loads((folder / SETTINGS).read_text("utf-8"))
        if settings.pop("format_version") != FORMAT_VERSION:
            raise ValueError(f"not of format version {FORMAT_VERSION}")
        for name in (CARD, TOKENIZER, TOKENS):
            (folder / name).stat()
        network = from_dict(NetworkConfig, settings["network"], f"{where}network")
        training = from_dict(TrainingConfig, settings["training"] | {"device": device}, f"{where}training")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchmarkError(
            f"{folder}: not prepared for a GPU ({error}); make it anew with "
            "`python -m benchmarks.gpu prepare --out FOLDER`"
        ) from None
    if device == "cpu":
        network = network.model_copy(update=REHEARSED)
        training = training.model_copy(update={"batch_tokens": REHEARSED_TOKENS})
    return Prepared(folder, settings["profile"], network, training)
