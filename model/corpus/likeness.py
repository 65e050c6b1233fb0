"""When a text is the same as another, or near to it.

The same are texts with one normal form: without case, punctuation, ``ё`` and the value of numbers. Near are those that
share most of the runs of five characters of that form (Jaccard's similarity). Of many texts the near ones are found by
MinHash with locality-sensitive hashing (rensa), and then measured exactly, so that no text is called near that is not.

    normal_form("Ёлка № 17, зелёная!") == normal_form("елка №5 зеленая") == "елка 0 зеленая"
"""

import struct
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from model.text.tables import CharacterTable, characters

RUN = 5  # characters of a shingle
PERMUTATIONS = 128  # hashes in a signature
MISSED = 0.06  # share of the texts right at the threshold that locality-sensitive hashing may miss; far fewer above it
SEED = 1
SLOTS = 1 << 18  # of the counts of runs
BLOCK = 10_000  # forms whose runs are in memory at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing
_SEVERAL = sys.maxunicode + 1  # a character that has several in one case, as ß has ss
_END = "\0"  # between texts; as a character of one it becomes a space, like every control


def normal_form(text: str) -> str:
    """Letters in one case, one space between words, each number a 0; a text without letters stays as it is."""
    return normal_forms([text])[0]


def normal_forms(texts: Sequence[str]) -> list[str]:
    """The normal form of each text: of a thousand at once, in a tenth of the time that they take one by one."""
    if not texts:
        return []
    joined = _END.join(texts)
    if joined.count(_END) >= len(texts):
        joined = _END.join(text.replace(_END, " ") for text in texts)
    codes = _FORMS[characters(joined)]
    if (codes == _SEVERAL).any():
        codes = _FORMS[characters(joined.casefold())]
    stays = (codes != ord(" ")) & (codes != ord("0"))
    stays[:1] = True
    stays[1:] |= codes[1:] != codes[:-1]  # one space, one 0
    joined = codes[stays].tobytes().decode("utf-32-le", "surrogatepass")
    stripped = [form.strip(" ") for form in joined.split(_END)]
    return [form if form.strip("0 ") else text for form, text in zip(stripped, texts, strict=True)]


def _form(character: str) -> int:
    """What becomes of a character: a letter in one case and a mark of one stay, a digit becomes 0, all else a space."""
    folded = character.casefold()
    if len(folded) > 1:
        return _SEVERAL
    if folded == _END or folded.isalnum() or unicodedata.category(folded) in ("Mn", "Mc"):
        return ord("0" if folded.isdecimal() else "е" if folded == "ё" else folded)
    return ord(" ")


_FORMS = CharacterTable(_form, np.uint32)


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


def run_hashes(forms: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """A hash of each run of each form, one form after another; and where each form's begin, and the last one's end."""
    codes = characters("".join(form + "\0" * RUN for form in forms))
    windows = len(codes) - RUN + 1
    hashes = np.zeros(windows, np.uint64)
    for place in range(RUN):  # a polynomial over the characters, modulo 2**64
        hashes *= _MULTIPLIER
        hashes += codes[place : windows + place]
    lengths = np.fromiter(map(len, forms), np.int64, len(forms))
    counts = np.maximum(lengths - RUN + 1, 1)
    ends = np.cumsum(counts)
    firsts = np.cumsum(lengths + RUN) - lengths - RUN  # where each form begins among the characters of all
    return hashes[_stretches(firsts, counts)], np.concatenate([[0], ends])


def digests(forms: Sequence[str]) -> Any:
    """The MinHash signatures of forms, a matrix of rensa's with a row for each."""
    hashes, offsets = run_hashes(forms)
    return RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), num_perm=PERMUTATIONS, seed=SEED
    )


def signatures(forms: Sequence[str]) -> npt.NDArray[np.uint32]:
    """The MinHash signatures of forms, of shape [forms, PERMUTATIONS]."""
    if not forms:
        return np.zeros((0, PERMUTATIONS), np.uint32)
    # rensa gives lists of integers; packed they become an array in half the time that NumPy takes.
    pack = struct.Struct(f"={PERMUTATIONS}I").pack
    packed = b"".join(pack(*row) for row in digests(forms).to_rows())
    return np.frombuffer(packed, np.uint32).reshape(-1, PERMUTATIONS)


class Neighbours:
    """Texts in their normal form, among which the nearest to others is found.

    What hashing finds is measured: two sets that are near have one of the first runs of both in common, in whatever
    order all runs are (prefix filtering; Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins, 2006).
    """

    def __init__(self, forms: Sequence[str], threshold: float) -> None:
        self._threshold, self._forms = threshold, forms
        bands = PERMUTATIONS // rows_per_band(threshold)
        self._bands = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=bands)
        self._often = np.zeros(SLOTS, np.int64)  # how many of the runs of all forms have a hash that begins so
        blocks = [forms[begin : begin + BLOCK] for begin in range(0, len(forms), BLOCK)]
        for block in blocks:
            self._often += np.bincount(_slots(run_hashes(block)[0]), minlength=SLOTS)
        # The first runs of all forms, in order, and the numbers of the forms that have them.
        first = [self._first(block) for block in blocks]
        runs = np.concatenate([np.zeros(0, np.uint64), *(runs for runs, _, _ in first)])
        places = [owners + number * BLOCK for number, (_, owners, _) in enumerate(first)]
        self._sizes = np.concatenate([np.zeros(0, np.int64), *(sizes for _, _, sizes in first)])
        order = np.argsort(runs, kind="stable")
        self._runs, self._places = runs[order], np.concatenate([np.zeros(0, np.int64), *places])[order]
        if forms:
            matrix = digests(forms)
            # rensa flags what meets two keys, as a text of its own index meets itself and another: so each has two.
            self._bands.insert_matrix(matrix, 0)
            self._bands.insert_matrix(matrix, len(forms))

    def nearest(self, forms: Sequence[str]) -> list[int | None]:
        """For each form the number of the most similar text, if it is near; None otherwise."""
        found: list[int | None] = [None] * len(forms)
        if not self._forms or not forms:
            return found
        flags = self._bands.query_duplicate_flags_matrix(digests(forms))
        if flagged := [number for number, flag in enumerate(flags) if flag]:
            runs, owners, sizes = self._first([forms[number] for number in flagged])
            begins, ends = (np.searchsorted(self._runs, runs, side) for side in ("left", "right"))
            owners = np.repeat(owners, ends - begins)
            places = self._places[_stretches(begins, ends - begins)]
            # No two sets share more than the smaller has: most are spared the comparison.
            small, large = (of(sizes[owners], self._sizes[places]) for of in (np.minimum, np.maximum))
            alike = small >= self._threshold * large - 1e-9
            others = [set[int]() for _ in flagged]
            for owner, place in zip(owners[alike].tolist(), places[alike].tolist(), strict=True):
                others[owner].add(place)
            for number, numbers in zip(flagged, others, strict=True):
                found[number] = self._nearest(forms[number], numbers)
        return found

    def _nearest(self, form: str, numbers: Iterable[int]) -> int | None:
        """Of the texts of these numbers the most similar one, and of several such the first, if it is near."""
        runs = shingles(form)
        found = max(
            (
                (len(runs & other) / len(runs | other), -number)
                for number in numbers
                if (other := shingles(self._forms[number]))
            ),
            default=(0.0, 0),
        )
        return -found[1] if found[0] >= self._threshold else None

    def _first(
        self, forms: Sequence[str]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first runs of each form, as hashes, the number of the form that has each; and how many each form has.

        They are as many as two near sets cannot both do without, the rarest ones: few others have them.
        """
        runs, offsets = run_hashes(forms)
        owners = np.repeat(np.arange(len(forms)), np.diff(offsets))
        order = np.lexsort((runs, self._often[_slots(runs)], owners))
        runs, owners = runs[order], owners[order]
        new = np.ones(len(runs), bool)
        new[1:] = (runs[1:] != runs[:-1]) | (owners[1:] != owners[:-1])
        runs, owners = runs[new], owners[new]
        sizes = np.bincount(owners, minlength=len(forms))
        places = np.arange(len(runs)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        shared = np.ceil(self._threshold * sizes - 1e-9).astype(np.int64)
        first = places < np.repeat(sizes - shared + 1, sizes)
        return runs[first], owners[first], sizes


def _stretches(begins: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The places of stretches, one stretch after another."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(begins - ends + counts, counts)


def _slots(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(64 - SLOTS.bit_length() + 1)).astype(np.int64)
