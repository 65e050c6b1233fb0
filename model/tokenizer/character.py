"""Single characters, with UTF-8 bytes for those that the vocabulary lacks.

The vocabulary is control tokens, the 256 bytes, then the characters by falling frequency; all of it stands readable in
``tokenizer.json``. Simple to reason about and right for very small models, at three to four times the tokens of an
8,000-piece vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.files import sha256_file
from model.tokenizer.vocabulary import MANIFEST, NO_TEXT, Tokenizer, TokenizerError, normalize

if TYPE_CHECKING:
    from model.config import TokenizerConfig


class CharacterTokenizer(Tokenizer):
    """One id per known character, one id per byte of an unknown one."""

    kind = "char"
    leading_space = False

    def __init__(self, directory: Path, manifest: dict[str, Any]):
        control, characters = manifest["control_tokens"], manifest["characters"]
        self._ids = {character: len(control) + 256 + i for i, character in enumerate(characters)}
        if len(self._ids) != len(characters):
            raise TokenizerError(f"{directory / MANIFEST}: a character stands twice in the vocabulary; train it again")
        byte_ids = range(len(control), len(control) + 256)
        table = [b""] * len(control) + [bytes([byte]) for byte in range(256)] + [c.encode() for c in characters]
        super().__init__(control, table, byte_ids, {MANIFEST: sha256_file(directory / MANIFEST)})

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        spelled: dict[str, list[int]] = {}  # a text that is hard says the same again and again
        for character in normalize(text):
            if (known := self._ids.get(character)) is not None:
                ids.append(known)
                continue
            if character not in spelled:
                spelled[character] = [len(self.control_tokens) + byte for byte in character.encode()]
            ids += spelled[character]
        return ids


def collect_characters(lines: Iterable[str], config: TokenizerConfig, control: Sequence[str]) -> str:
    """The characters worth an id, most frequent first: as many as fit the vocabulary, and as cover the text.

    Raises:
        TokenizerError: when control tokens and bytes leave no room, or there is no text at all.
    """
    counts: Counter[str] = Counter()
    for text in lines:
        counts.update(normalize(text))
    if not counts:
        raise TokenizerError(NO_TEXT)
    first = len(control) + 256
    if config.vocab_size <= first:
        raise TokenizerError(
            f"tokenizer.vocab_size: {config.vocab_size} leaves no room for characters: {len(control)} control tokens "
            f"and 256 bytes come first; the corpus has {len(counts)} characters, so {first + len(counts)} hold them all"
        )
    wanted, covered, characters = config.character_coverage * counts.total(), 0, []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: config.vocab_size - first]:
        if covered >= wanted:
            break
        characters.append(character)
        covered += count
    return "".join(characters)
