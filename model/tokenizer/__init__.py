"""Text to token ids and back: SentencePiece (unigram, BPE) and characters behind one interface.

One implementation for training and serving; its hash is in every bundle. Loading needs no corpus and no torch; what
trains one is in model.tokenizer.train.

    python -m model.tokenizer CORPUS --out DIR
    python -m model.tokenizer --show DIR "text"
"""

import json
from pathlib import Path

from model.tokenizer.character import CharacterTokenizer
from model.tokenizer.subword import SentencePieceTokenizer
from model.tokenizer.vocabulary import FORMAT_VERSION, MANIFEST, NORMALIZATION, Tokenizer, TokenizerError

__all__ = ["Tokenizer", "TokenizerError", "load_tokenizer"]

KINDS = {"unigram": SentencePieceTokenizer, "bpe": SentencePieceTokenizer, "char": CharacterTokenizer}


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Load a tokenizer from its directory, or from a bundle, and check it.

    Raises:
        TokenizerError: when a file is missing, changed, or of a format this version does not know.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TokenizerError(f"{path}: no such file; train a tokenizer with `python -m model.tokenizer`") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TokenizerError(f"{path}: not readable as JSON ({error}); train the tokenizer again") from None
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        raise TokenizerError(f"{path}: not a tokenizer of format version {FORMAT_VERSION}; train it again")
    if manifest.get("normalization") != NORMALIZATION or manifest.get("kind") not in KINDS:
        raise TokenizerError(
            f"{path}: kind {manifest.get('kind')!r} with normalization {manifest.get('normalization')!r} is not known; "
            f"known: {', '.join(KINDS)} with {NORMALIZATION}"
        )
    try:
        return KINDS[manifest["kind"]](directory, manifest)
    except FileNotFoundError as error:
        raise TokenizerError(f"{error.filename}: no such file, though {path} needs it; copy both") from None
    except KeyError as error:
        raise TokenizerError(f"{path}: has no {error}; train the tokenizer again") from None
