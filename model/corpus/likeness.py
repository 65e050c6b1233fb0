"""When a text is the same as another, or near to it.

The same are texts with one normal form: without case, punctuation, ``ё`` and the value of numbers. Near are those that
share most of the runs of five characters of that form (Jaccard's similarity). Of many texts the near ones are found by
MinHash with locality-sensitive hashing (rensa), and then measured exactly, so that no text is called near that is not.

    normal_form("Ёлка № 17, зелёная!") == normal_form("елка №5 зеленая") == "елка 0 зеленая"
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

RUN = 5  # characters of a shingle
PERMUTATIONS = 128  # hashes in a signature
MISSED = 0.06  # share of the texts right at the threshold that locality-sensitive hashing may miss; far fewer above it
SEED = 1
SLOTS = 1 << 18  # of the counts of runs
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing
_NUMBER = re.compile("00+")


class _Forms(dict[int, int | str]):
    """A table for str.translate, made as characters are met: letters stay, digits become 0, all else a space."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        form = "0" if character.isdecimal() else "е" if character == "ё" else character
        self[code] = form if form.isalnum() or _joins(form) else " "
        return self[code]


def _joins(character: str) -> bool:
    """Whether a mark is part of a letter, as the vowels of Hindi are."""
    return unicodedata.category(character) in ("Mn", "Mc")


_FORMS = _Forms()


def normal_form(text: str) -> str:
    """Letters in one case, one space between words, each number a 0; a text without letters stays as it is."""
    form = text.casefold().translate(_FORMS)
    if "00" in form:
        form = _NUMBER.sub("0", form)
    form = " ".join(form.split())
    return form if form.strip("0 ") else text


def shingles(form: str) -> set[str]:
    """The runs of five characters of a form; a shorter one is its own."""
    return {form[start : start + RUN] for start in range(max(1, len(form) - RUN + 1))}


def rows_per_band(threshold: float) -> int:
    """The most rows that a band may have: more bands of fewer rows find more pairs, and more that are none.

    A pair of similarity s is found with probability 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive
    Datasets, 3.4.2).
    """
    sizes = [size for size in (16, 8, 4, 2) if (1 - threshold**size) ** (PERMUTATIONS // size) <= MISSED]
    return max(sizes, default=2)


def digests(forms: Sequence[str]) -> Any:
    """The MinHash signatures of forms, a matrix of rensa's with a row for each."""
    codes = np.frombuffer("".join(form + "\0" * RUN for form in forms).encode("utf-32-le", "surrogatepass"), np.uint32)
    windows = len(codes) - RUN + 1
    hashes = np.zeros(windows, np.uint64)
    for place in range(RUN):  # a polynomial over the characters, modulo 2**64
        hashes *= _MULTIPLIER
        hashes += codes[place : windows + place]
    lengths = np.fromiter(map(len, forms), np.int64, len(forms))
    counts = np.maximum(lengths - RUN + 1, 1)
    ends = np.cumsum(counts)
    firsts = np.cumsum(lengths + RUN) - lengths - RUN  # where each form begins among the characters of all
    taken = np.arange(ends[-1]) + np.repeat(firsts - ends + counts, counts)
    offsets = np.concatenate([[0], ends]).astype(np.uint64)
    return RMinHash.digest_matrix_from_flat_token_hashes(hashes[taken], offsets, num_perm=PERMUTATIONS, seed=SEED)


def signatures(forms: Sequence[str]) -> npt.NDArray[np.uint32]:
    """The MinHash signatures of forms, of shape [forms, PERMUTATIONS]."""
    if not forms:
        return np.zeros((0, PERMUTATIONS), np.uint32)
    return np.array(digests(forms).to_rows(), np.uint32)


class Neighbours:
    """Texts in their normal form, among which the nearest to others is found.

    What hashing finds is measured: two sets that are near have one of the first runs of both in common, in whatever
    order all runs are (prefix filtering; Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins, 2006).
    """

    def __init__(self, forms: Sequence[str], threshold: float) -> None:
        self._threshold, self._forms = threshold, forms
        bands = PERMUTATIONS // rows_per_band(threshold)
        self._bands = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=bands)
        self._often = array("L", bytes(array("L").itemsize * SLOTS))  # how many forms have the runs of a hash
        for form in forms:
            for run in shingles(form):
                self._often[hash(run) % SLOTS] += 1
        self._places: dict[str, list[int]] = {}  # of each run, the forms that have it among their first
        for number, form in enumerate(forms):
            for run in self._first(shingles(form)):
                self._places.setdefault(run, []).append(number)
        if forms:
            matrix = digests(forms)
            # rensa flags what meets two keys, as a text of its own index meets itself and another: so each has two.
            self._bands.insert_matrix(matrix, 0)
            self._bands.insert_matrix(matrix, len(forms))

    def nearest(self, forms: Sequence[str]) -> list[int | None]:
        """For each form the number of the most similar text, if it is near; None otherwise."""
        if not self._forms or not forms:
            return [None] * len(forms)
        flags = self._bands.query_duplicate_flags_matrix(digests(forms))
        return [self._measure(form) if flag else None for form, flag in zip(forms, flags, strict=True)]

    def _measure(self, form: str) -> int | None:
        runs = shingles(form)
        found = max(
            (
                (len(runs & other) / len(runs | other), -number)
                for number in {number for run in self._first(runs) for number in self._places.get(run, ())}
                if (other := shingles(self._forms[number]))
            ),
            default=(0.0, 0),
        )
        return -found[1] if found[0] >= self._threshold else None

    def _first(self, runs: set[str]) -> list[str]:
        """As many of the runs as two near sets cannot both do without, the rarest ones: few others have them."""
        shared = ceil(self._threshold * len(runs) - 1e-9)
        return sorted(runs, key=lambda run: (self._often[hash(run) % SLOTS], run))[: len(runs) - shared + 1]
