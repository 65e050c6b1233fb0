"""From token ids to text, one token at a time.

A token may end in the middle of a UTF-8 character (byte fallback spends two tokens on one Cyrillic letter) and in the
middle of a stop string. Text is let out only when neither can still change it, so what a client has read never has to
be taken back. The joined pieces equal ``tokenizer.decode`` of all ids, which the tests hold for any ids.
"""

import codecs
import functools

_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one request.

    Args:
        table: bytes of every token id (``tokenizer.token_bytes``), shared by all requests.
        texts: :func:`whole_texts` of the table, likewise shared: what spares most tokens the decoder.
        strip: drop one leading space, the tokenizer's own (``leading_space``) where the ids begin a text; not where
            they continue one.
        stop: strings that end the text.
    """

    def __init__(
        self, table: list[bytes], texts: list[str | None], strip: bool = False, stop: tuple[str, ...] = ()
    ) -> None:
        self._table, self._texts = table, texts
        self._decoder = _utf8("replace")
        self._open = False  # whether the decoder waits for the rest of a character
        self._strip = strip
        self._stop = stop
        self._begun = [0] * len(stop)  # characters of each stop string that the text so far ends with
        self._pending = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """New text that is final; sets ``stopped`` when a stop string was completed."""
        text = None if self._open else self._texts[token_id]
        if text is None:
            text = self._decoder.decode(self._table[token_id])
            self._open = bool(self._decoder.getstate()[0])
        return self._advance(text) if self._stop or self._strip else text

    def finish(self) -> str:
        """The rest of the text, once no token follows: held-back text, and U+FFFD for a character left unfinished."""
        return "" if self.stopped else self._advance(self._decoder.decode(b"", True)) + self._pending

    def _advance(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            text = text.removeprefix(" ")
        if not self._stop:
            return text
        new, before = text, len(self._pending)
        text = self._pending + new
        self._pending = ""
        # What was held back holds no stop string: only one that ends in the new text is looked for.
        starts = (text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stop)
        found = [start for start in starts if start >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        self._begun = [_overlap(stop, begun, new) for stop, begun in zip(self._stop, self._begun, strict=True)]
        held = max(self._begun)
        if held:
            self._pending = text[-held:]
            return text[:-held]
        return text


def _overlap(stop: str, begun: int, new: str) -> int:
    """How much of ``stop`` a text ends with that ended with ``begun`` characters of it and goes on with ``new``.

    Knuth, Morris and Pratt's automaton: a step or two for each new character, however the stop string repeats itself.
    """
    if not begun and stop[0] not in new:
        return 0
    borders = _borders(stop)
    for character in new:
        while begun and stop[begun] != character:
            begun = borders[begun - 1]
        begun += stop[begun] == character
    return begun


@functools.lru_cache(1024)
def _borders(stop: str) -> list[int]:
    """For each beginning of ``stop``: how long the longest shorter beginning is that it also ends with."""
    borders = [0]
    for character in stop[1:]:
        border = borders[-1]
        while border and stop[border] != character:
            border = borders[border - 1]
        borders.append(border + (stop[border] == character))
    return borders


def whole_texts(table: list[bytes]) -> list[str | None]:
    """The text of every id whose bytes are whole characters; None for the others."""
    texts = [piece.decode(errors="ignore") for piece in table]
    return [text if text.encode() == piece else None for text, piece in zip(texts, table, strict=True)]
