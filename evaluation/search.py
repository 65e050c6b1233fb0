"""A beam search of the test sets beside greedy: how wide, and whether the two differ beyond luck.

searching = Searching(engine, config)
searching.add(score, references, greedy, found)  # of each set, where searching.beams are above 1
searching.ended().p
"""

from collections.abc import Sequence

from evaluation.paired import Rows, compared
from evaluation.results import Score, Search
from model.config import EvaluationConfig
from serving.engine import Engine


class Searching:
    """What was found so far.

    Attributes:
        beams: how wide the search is that the settings ask for of this bundle; 1 for none.
    """

    def __init__(self, engine: Engine, config: EvaluationConfig) -> None:
        wanted = config.beams > 1 and engine.bundle.precision in config.beam_variants
        self.beams = config.beams if wanted and config.beams <= engine.limits.beams else 1
        if wanted and self.beams == 1:
            print(f"beams: not measured, as this bundle takes {engine.limits.beams} at most here", flush=True)
        self._scores = list[Score]()
        self._references, self._greedy, self._found = list[str](), list[str](), list[str]()

    def add(self, score: Score, references: Sequence[str], greedy: Sequence[str], found: Sequence[str]) -> None:
        """Take over the score of a set and its rows: what they should become, and what each of the two wrote."""
        self._scores.append(score)
        self._references += references
        self._greedy += greedy
        self._found += found

    def ended(self) -> Search | None:
        """The whole; None where nothing was searched."""
        if not self._scores:
            return None
        both = [Rows((), tuple(self._references), tuple(outputs)) for outputs in (self._greedy, self._found)]
        plain, searched = compared(both)
        return Search(beams=self.beams, scores=self._scores, chrf=searched.chrf, plain_chrf=plain.chrf, p=searched.p)
