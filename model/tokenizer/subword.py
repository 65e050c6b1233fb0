"""SentencePiece, unigram or BPE, with byte fallback.

Three choices make the round trip exact and keep control tokens out of users' hands:

* control tokens are SentencePiece *control symbols*, which its encoder never matches in text;
* SentencePiece itself normalises nothing (``identity``, extra spaces kept, no dummy prefix): NFC and the leading space
  are ours, and visible;
* SentencePiece writes a space as U+2581 and reads every U+2581 as a space, so that character itself is cut out of the
  text and written as its three bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece

from model.files import sha256_file
from model.processors import available_cpus
from model.tokenizer.vocabulary import MANIFEST, NO_TEXT, SPECIAL_TOKENS, Tokenizer, TokenizerError, normalize

if TYPE_CHECKING:
    from model.config import TokenizerConfig

MODEL = "tokenizer.model"
SPACE = "\u2581"
# Not the number of cores: unigram training adds up floats per thread, and another number of threads
# would give another vocabulary on another machine.
TRAINING_THREADS = 16
LONGEST_LINE_BYTES = 1 << 16


class SentencePieceTokenizer(Tokenizer):
    """A trained SentencePiece model behind the common interface."""

    leading_space = True

    def __init__(self, directory: Path, manifest: dict[str, Any]):
        model = directory / MODEL
        files = {MANIFEST: sha256_file(directory / MANIFEST), MODEL: sha256_file(model)}
        if files[MODEL] != manifest["model_sha256"]:
            raise TokenizerError(
                f"{model}: sha256 is {files[MODEL]}, but {MANIFEST} records {manifest['model_sha256']}; "
                "the file was changed or belongs to another tokenizer, take both from one run"
            )
        self.kind = manifest["kind"]
        self._model = sentencepiece.SentencePieceProcessor(model_proto=model.read_bytes())
        pieces = [self._model.id_to_piece(i) for i in range(self._model.vocab_size())]
        control = manifest["control_tokens"]
        if pieces[: len(control)] != control:
            raise TokenizerError(f"{model}: its control tokens are not those of {MANIFEST}; take both from one run")
        byte_ids = {self._model.piece_to_id(f"<0x{byte:02X}>"): byte for byte in range(256)}
        if len(byte_ids) != 256:
            raise TokenizerError(f"{model}: has no byte fallback; train it with `python -m model.tokenizer`")
        self._space_character = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        table = [piece.replace(SPACE, " ").encode() for piece in pieces]
        table[: len(control)] = [b""] * len(control)
        for i, byte in byte_ids.items():
            table[i] = bytes([byte])
        super().__init__(control, table, byte_ids, files)

    def encode(self, text: str) -> list[int]:
        return self._joined([self._model.encode(part) for part in _parts(text)])

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As ``encode``, on SentencePiece's own threads."""
        parts = [_parts(text) for text in texts]
        encoded = iter(self._model.encode(list(itertools.chain(*parts)), num_threads=available_cpus()))
        return [self._joined(itertools.islice(encoded, len(own))) for own in parts]

    def _joined(self, parts: Iterable[list[int]]) -> list[int]:
        ids: list[int] = []
        for i, part in enumerate(parts):
            ids += [*self._space_character, *part] if i else part
        return ids


def _parts(text: str) -> list[str]:
    """A text as it is encoded: normalised, a space before it, cut where U+2581 stands."""
    text = normalize(text)
    return (" " + text).split(SPACE) if text else []


def train_subwords(lines: Iterable[str], config: TokenizerConfig, control: Sequence[str]) -> bytes:
    """Train a model and return the bytes of its file; the same lines give the same bytes on any machine.

    The vocabulary comes out smaller than ``config.vocab_size`` where the text has too few distinct pieces: a small
    corpus is no reason to stop.

    Raises:
        TokenizerError: when the characters and bytes alone need a larger vocabulary, or there is no text at all.
    """
    model = BytesIO()
    specials: dict[str, Any] = {}
    for i, name in enumerate(("pad", "unk", "bos", "eos")):
        specials |= {f"{name}_id": i, f"{name}_piece": SPECIAL_TOKENS[i]}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(lines),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            **specials,
            control_symbols=list(control[len(SPECIAL_TOKENS) :]),
            num_threads=TRAINING_THREADS,
            max_sentence_length=LONGEST_LINE_BYTES,
            minloglevel=2,  # errors only; they come back as exceptions as well
        )
    except RuntimeError as error:
        message = str(error)
        if "sentences_.empty()" in message:
            raise TokenizerError(NO_TEXT) from None
        if "smaller than required_chars" in message:
            needed = message.split(" vs ")[1].split(".", maxsplit=1)[0]
            raise TokenizerError(
                f"tokenizer.vocab_size: {config.vocab_size} is too small for this corpus: its characters, the 256 "
                f"bytes and the control tokens need {needed}; raise it, or lower character_coverage (now "
                f"{config.character_coverage})"
            ) from None
        raise TokenizerError(f"SentencePiece could not train on this corpus: {message}") from None
    return model.getvalue()


def _sentences(lines: Iterable[str]) -> Iterator[str]:
    """Normalised lines with the leading space that ``encode`` adds.

    Characters that SentencePiece's trainer reserves for itself (it would drop the line, or stop) become spaces here;
    in encoding they are ordinary and cost a few bytes.
    """
    reserved = str.maketrans(dict.fromkeys(("\0", "\t", "\r", SPACE, "\u2585", "\u2047"), " "))
    for text in lines:
        for line in normalize(text).translate(reserved).split("\n"):
            # A longer line the trainer would drop without a word; four bytes is the most that a character takes.
            whole = len(line.encode()) < LONGEST_LINE_BYTES
            size = len(line) + 1 if whole else LONGEST_LINE_BYTES // 4 - 1
            for start in range(0, len(line), size):
                if (part := line[start : start + size]).strip():
                    yield " " + part
