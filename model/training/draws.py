"""Chance without a stream: each draw is a hash of the seed, of what it is for and of its item's number.

So any draw can be made alone, in any order and on any worker, and it is the same with every version of numpy.
"""

import hashlib

import numpy as np

ROUNDS = 4  # of the Feistel network; three are a random permutation to whoever cannot choose its inputs
_WEYL, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFTS = tuple(np.uint64(n) for n in (30, 27, 31, 11))


class Draws:
    """All draws of one seed, a natural number of any size."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def bits(self, purpose: str, turn: int, items: np.ndarray) -> np.ndarray:
        """A u64 for each item, by splitmix64; ``turn`` is such as the pass over the data."""
        text = f"{self._seed} {purpose} {turn}".encode()
        key = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
        mixed = items.astype(np.uint64) * _WEYL + key
        mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
        mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
        return mixed ^ (mixed >> _SHIFTS[2])

    def shares(self, purpose: str, turn: int, items: np.ndarray) -> np.ndarray:
        """A float64 in [0, 1) for each item."""
        return (self.bits(purpose, turn, items) >> _SHIFTS[3]) * 2.0**-53

    def order(self, purpose: str, turn: int, count: int) -> np.ndarray:
        """The numbers below ``count`` in random order, i64; all of them are held in memory."""
        return np.argsort(self.bits(purpose, turn, np.arange(count)), kind="stable")

    def permuted(self, purpose: str, turn: int, places: np.ndarray, size: int) -> np.ndarray:
        """What stands at some places of a random permutation of the numbers below ``size``, i64, without the others.

        A Feistel network permutes the next power of four; what it puts beyond ``size`` goes through it again.
        """
        half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        mask = (np.uint64(1) << half) - np.uint64(1)
        found, outside = places.astype(np.uint64), np.ones(len(places), bool)
        while outside.any():
            left, right = found[outside] >> half, found[outside] & mask
            for number in range(ROUNDS):
                left, right = right, left ^ (self.bits(f"{purpose} {number}", turn, right) & mask)
            found[outside] = left << half | right
            outside = found >= size
        return found.astype(np.int64)
