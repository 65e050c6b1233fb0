"""How rows are shown: which examples a pass makes of them, by draws for the seed, the pass and the row alone.

Only the examples' sizes are looked up here; their ids are read when a batch is made of them.

Legend: R rows drawn, E examples, J rows that are joined in an example at most.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.config import NetworkConfig, TrainingConfig
from model.corpus.answers import answer
from model.tokenizer import Tokenizer
from model.tokenizer.prompt import Example, pair_example, text_windows
from model.training.draws import Draws
from model.training.tokens import LABELS, Tokens, sources

MOST_JOINED = 3


@dataclass(frozen=True)
class Drawn:
    """Rows of one pass, i64 [R]. A row that is shown twice in it is two ``items`` to draw for, i64 [R]."""

    turn: int
    rows: np.ndarray
    items: np.ndarray


@dataclass(frozen=True)
class Shown:
    """Examples, with all that was chosen for them; their ids are still to be read.

    Attributes:
        width: i64 [E], the positions that an example takes on its longer side; ``inputs`` those on the decoder's.
        rows: i64 [E, J], what it is made of, with -1 in the places that are left.
        choices: arrays [E] or [E, J] by their names, for whoever made them.
    """

    width: np.ndarray
    inputs: np.ndarray
    rows: np.ndarray
    choices: dict[str, np.ndarray]

    def __getitem__(self, chosen: np.ndarray) -> Shown:
        """Some of the examples, by a mask or by their places."""
        choices = {name: array[chosen] for name, array in self.choices.items()}
        return Shown(self.width[chosen], self.inputs[chosen], self.rows[chosen], choices)


def together(parts: Sequence[Shown]) -> Shown:
    """The examples of several passes."""
    width, inputs, rows = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("width", "inputs", "rows")
    )
    choices = {name: np.concatenate([part.choices[name] for part in parts]) for name in parts[0].choices}
    return Shown(width, inputs, rows, choices)


class Pairs:
    """Sentence pairs: a row is shown in one of the two directions, its source as it is or as most people type it.

    Its author and its domain are told or not. Some are joined with the rows that were drawn after them, for the sake of
    longer texts (``training.join_share``).
    """

    def __init__(
        self,
        tokens: Tokens,
        tokenizer: Tokenizer,
        network: NetworkConfig,
        config: TrainingConfig,
        draws: Draws | None = None,
    ) -> None:
        """Without ``draws``, for validation, directions alternate and rows are as evaluation has them: no domain."""
        self._tokens, self._tokenizer, self._network, self._config = tokens, tokenizer, network, config
        self._draws, self._languages = draws, sources(tokens.own)
        # What is to be written: a row's answer where the corpus has them, which validation's never has.
        self._answers = {
            language: tokens.own.get(answer(language), tokens.own[language]) for language in self._languages
        }
        # What stands around the texts, and what a name adds to it; the layout is model.tokenizer.prompt's alone.
        self._around = self._empty({})
        self._told = {"author": True, "domain": draws is not None and config.domain_dropout < 1}
        known = [
            {label: tokens.names[label][0]} if self._told[label] and tokens.names[label] else {} for label in LABELS
        ]
        self._added = np.stack([self._empty(names) - self._around for names in known])
        self._space = [] if tokenizer.leading_space else tokenizer.encode(" ")

    def show(self, drawn: Drawn) -> Shown:
        """One example of each row, or of each group of joined rows."""
        rows, turn, items, config = drawn.rows, drawn.turn, drawn.items, self._config
        if self._draws:
            flips = self._draws.shares("direction", turn, items) < 0.5
            typed = self._draws.shares("typed", turn, items) < config.typed_share
        else:
            flips, typed = rows % 2 == 1, np.zeros(len(rows), bool)
        ways = flips.astype(np.int64)
        texts, answers = self._lengths(rows, typed)
        groups = np.arange(len(rows))[:, None]
        if self._draws and config.join_share:
            groups = self._joined(self._draws.shares("join", turn, items), ways, texts, answers)
        first, there = groups[:, 0], groups >= 0
        spaces = (there.sum(1) - 1) * len(self._space)
        text, answer = (
            np.where(there, lengths[ways[first, None], groups], 0).sum(1) + spaces for lengths in (texts, answers)
        )
        choices = {"flip": flips[first], "typed": typed[groups]}
        for label, dropout in (("author", config.author_dropout), ("domain", config.domain_dropout)):
            numbers = self._tokens.labels[label][rows][groups]
            told = self._told[label] & ((numbers == numbers[:, :1]) | ~there).all(1)  # the same of all that is joined
            if self._draws:
                told &= self._draws.shares(label, turn, items)[first] >= dropout
            choices[label] = np.where(told, numbers[:, 0], 0)
        sizes = self._sizes(text, answer, np.stack([choices[label] > 0 for label in LABELS], 1))
        return Shown(*sizes, np.where(there, rows[groups], -1), choices)

    def fits(self, rows: np.ndarray) -> np.ndarray:
        """False for a row that no draw lets fit; bool [R]."""
        own, answers = self._lengths(rows, np.zeros(len(rows), bool))
        texts = np.minimum(own, self._lengths(rows, np.ones(len(rows), bool))[0])
        nameless = np.zeros((len(rows), len(LABELS)), bool)
        least = [self._sizes(*lengths, nameless)[0] for lengths in zip(texts, answers, strict=True)]
        return np.minimum(*least) <= self._network.max_positions

    def example(self, shown: Shown, index: int) -> Example:
        """One of the examples, with its ids."""
        source, target = self._languages[::-1] if shown.choices["flip"][index] else self._languages
        text: list[int] = []
        written: list[int] = []
        for row, typed in zip(shown.rows[index].tolist(), shown.choices["typed"][index].tolist(), strict=True):
            if row >= 0:
                ids = typed and self._tokens.typed[source].of(row)
                ids = ids or self._tokens.source[source].of(row) or self._tokens.own[source].of(row)
                text += [*(self._space if text else []), *ids]
                written += [*(self._space if written else []), *self._answers[target].of(row)]
        names = {label: self._tokens.name(label, int(shown.choices[label][index])) for label in LABELS}
        return pair_example(self._tokenizer, self._network.family, text, written, target, **names)

    def _lengths(self, rows: np.ndarray, typed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of what is read and of what is written, i64 [2, R] each, by direction."""
        own, source, as_typed, answers = (
            np.stack([columns[language].lengths(rows) for language in self._languages])
            for columns in (self._tokens.own, self._tokens.source, self._tokens.typed, self._answers)
        )
        source = np.where(source > 0, source, own)
        return np.where(typed & (as_typed > 0), as_typed, source), answers[::-1]

    def _empty(self, names: dict[str, str]) -> np.ndarray:
        """Positions on both sides of an example without text, i64 [2]."""
        example = pair_example(self._tokenizer, self._network.family, [], [], self._languages[0], **names)
        return np.array([len(example.source), len(example.inputs)])

    def _sizes(self, text: np.ndarray, answer: np.ndarray, named: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the longer side and on the decoder's, of texts of some lengths, with names bool [E, 2]."""
        before, beside = (self._around + named @ self._added).T
        if self._network.family == "decoder":
            return text + answer + beside, text + answer + beside
        return np.maximum(text + before, answer + beside), answer + beside

    def _joined(self, shares: np.ndarray, ways: np.ndarray, texts: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Which rows each example is made of, as places among them, i64 [E, MOST_JOINED], -1 where there are fewer.

        Two or three as often, and no more than fit in the direction of the first.
        """
        before, beside = (self._around + self._added.sum(0)).tolist()
        most, both = self._network.max_positions, self._network.family == "decoder"
        wanted = np.searchsorted([self._config.join_share / 2, self._config.join_share], shares, side="right")
        sizes, lengths, space = (MOST_JOINED - wanted).tolist(), np.stack([texts, answers]).tolist(), len(self._space)
        groups, at = [], 0
        while at < len(sizes):
            way, end = ways[at], at + 1
            text, answer = lengths[0][way][at], lengths[1][way][at]
            while end < min(at + sizes[at], len(sizes)):
                text, answer = text + space + lengths[0][way][end], answer + space + lengths[1][way][end]
                if max(text + before, answer + beside, both * (text + answer + beside)) > most:
                    break
                end += 1
            groups.append([*range(at, end), *[-1] * (MOST_JOINED - end + at)])
            at = end
        return np.array(groups, np.int64).reshape(-1, MOST_JOINED)


class Windows:
    """Running text in consecutive windows of the network's size; each token is predicted once in a pass.

    A first window of random length moves the cuts from pass to pass.
    """

    def __init__(
        self, tokens: Tokens, tokenizer: Tokenizer, network: NetworkConfig, draws: Draws | None = None
    ) -> None:
        """Without ``draws``, for validation, all windows of a text but the last are full."""
        self._texts, self._tokenizer, self._draws = tokens.own["text"], tokenizer, draws
        self._size = network.max_positions

    def show(self, drawn: Drawn) -> Shown:
        """The windows of each row."""
        size = self._size
        places = self._texts.lengths(drawn.rows) + 1
        firsts = np.full(len(places), size)
        if self._draws:
            shares = self._draws.shares("window", drawn.turn, drawn.items)
            firsts = np.where(places > size, size // 2 + (shares * (size - size // 2 + 1)).astype(np.int64), size)
        counts = 1 + -(-np.maximum(places - firsts, 0) // size)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first, length = np.repeat(firsts, counts), np.repeat(places, counts)
        starts = np.where(number > 0, first + (number - 1) * size, 0)
        width = np.minimum(length, first + number * size) - starts
        choices = {"first": first, "number": number}
        return Shown(width, width, np.repeat(drawn.rows, counts)[:, None], choices)

    def fits(self, rows: np.ndarray) -> np.ndarray:
        """Every text does, in as many windows as it takes; bool [R]."""
        return np.ones(len(rows), bool)

    def example(self, shown: Shown, index: int) -> Example:
        """One of the windows, with its ids."""
        first, number = int(shown.choices["first"][index]), int(shown.choices["number"][index])
        windows = text_windows(self._tokenizer, self._texts.of(int(shown.rows[index, 0])), self._size, first)
        return next(itertools.islice(windows, number, None))
