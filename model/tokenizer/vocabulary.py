"""What every tokenizer shares: the ids, the control tokens, decoding, and the documented normalisation.

Normalisation is Unicode NFC and nothing else: ``normalize("и\\u0306") == "й"``. Runs of spaces, tabs, newlines, NUL,
U+2581, unassigned and private characters all survive, so ``decode(encode(text)) == normalize(text)`` for every string
that can be written as UTF-8. A lone surrogate cannot be, and is refused.

Decoding is a table of bytes per id, the same for every kind: control tokens are empty, invalid UTF-8 becomes U+FFFD.
It never goes through SentencePiece, so that a stream of :meth:`Tokenizer.token_bytes` and a whole
:meth:`Tokenizer.decode` cannot disagree.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Sequence
from typing import Final

from model.errors import ProjectError
from model.unicode import nfc

FORMAT_VERSION = 1
NORMALIZATION: Final = "NFC"
MANIFEST = "tokenizer.json"
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
NO_TEXT = "the corpus has no text to train a tokenizer on"


class TokenizerError(ProjectError, ValueError):
    """A tokenizer, text or token id that cannot be used; the message says what to do instead."""


def control_tokens(languages: Iterable[str], authors: Iterable[str], domains: Iterable[str] = ()) -> tuple[str, ...]:
    """The control tokens of a corpus in the order of their ids: specials, ``<2xx>`` per language, ``<author:x>``,
    ``<domain:x>``."""
    names = (*(f"<author:{name}>" for name in authors), *(f"<domain:{name}>" for name in domains))
    tokens = (*SPECIAL_TOKENS, *(f"<2{code}>" for code in languages), *names)
    if len(set(tokens)) != len(tokens):
        raise TokenizerError(
            f"languages, authors and domains must be distinct; their control tokens are {', '.join(tokens)}"
        )
    return tokens


def normalize(text: str) -> str:
    """The text in Unicode NFC.

    Raises:
        TokenizerError: for a lone surrogate, which no UTF-8 text can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise TokenizerError(
            f"the text holds a lone surrogate ({code} at character {error.start}), which cannot be written as UTF-8; "
            "remove it, or send the whole character"
        ) from None
    return nfc(text)


class Tokenizer(ABC):
    """Text to token ids and back.

    ids 0 to 3 are padding, unknown, begin and end; the other control tokens follow; then come the text's pieces.
    ``encode`` never produces a control token, whatever the text says, and never the unknown token.

    Attributes:
        kind: ``unigram``, ``bpe`` or ``char``.
        control_tokens: every control token; its position is its id.
        leading_space: whether ``encode`` puts a space before the text, so that a word has one and the same piece at
            the start and inside of a text. ``decode`` takes it away again; whoever joins ``token_bytes`` does it once,
            at the start of a text, and not at all where the ids continue one.
    """

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3
    kind: str
    leading_space: bool

    def __init__(
        self, control: Sequence[str], token_bytes: list[bytes], byte_ids: Container[int], files: dict[str, str]
    ):
        """``token_bytes`` holds the bytes of every id; ``files`` the sha256 of every file, by name."""
        self.control_tokens = tuple(control)
        self._bytes, self._byte_ids = token_bytes, byte_ids
        self._control_ids = {token: i for i, token in enumerate(self.control_tokens)}
        self.files = dict(sorted(files.items()))

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._bytes)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without begin or end; an empty text has none.

        Raises:
            TokenizerError: for text that cannot be written as UTF-8.
        """

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of many texts; in parallel where the tokenizer can."""
        return [self.encode(text) for text in texts]

    def is_byte(self, token_id: int) -> bool:
        """Whether an id is a byte of a character that has no piece of its own."""
        return token_id in self._byte_ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of any list of ids; bytes that are not UTF-8 become U+FFFD, control tokens nothing.

        Raises:
            TokenizerError: for an id outside the vocabulary.
        """
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")
        return text[1:] if self.leading_space and text.startswith(" ") else text

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that one id stands for, possibly part of a character; empty for a control token.

        Joined over a text's ids they decode to ``decode(ids)``, with a space in front where ``leading_space`` is set.
        """
        if not 0 <= token_id < len(self._bytes):
            raise TokenizerError(
                f"token id {token_id} is outside the vocabulary: ids go from 0 to {self.vocab_size - 1}"
            )
        return self._bytes[token_id]

    def control_id(self, token: str) -> int:
        """Id of a control token such as ``<2en>``.

        Raises:
            TokenizerError: naming the known ones.
        """
        if token not in self._control_ids:
            raise TokenizerError(f"unknown control token {token!r}; known: {', '.join(self.control_tokens)}")
        return self._control_ids[token]

    def content_hash(self) -> str:
        """sha256 (hex) over the names and contents of the tokenizer's files, the report excluded."""
        listing = "".join(f"{sha256}  {name}\n" for name, sha256 in self.files.items())
        return hashlib.sha256(listing.encode()).hexdigest()
