"""What runs wrote for the same rows, and whether one is better or only luckier: paired bootstrap, by sacreBLEU.

Scores come with the half width of their 95 % interval, over 1,000 resamplings of the rows. Of two runs that translated
the same rows, the same resamplings are taken (Koehn 2004), so that a difference can be sure that is smaller than the
intervals.

    python -c "from evaluation.paired import Rows, compared; print(compared([Rows(('a',), ('b',), ('b',))]))"
"""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from sacrebleu.metrics import CHRF
from sacrebleu.significance import PairedTest, Result

from model.corpus import read_split, test_sets

RESAMPLINGS = 1000


class Rows(NamedTuple):
    """A test set in one direction: what there was, what it should become, and what a model wrote, row by row."""

    sources: tuple[str, ...]
    references: tuple[str, ...]
    outputs: tuple[str, ...]


class Measured(NamedTuple):
    """chrF from 0 to 100, and half its interval; ``p`` is the chance of such a difference from the first by luck alone.

    None where there were no rows to resample, or no first to be held against.
    """

    chrf: float
    interval: float | None
    p: float | None


def translated(holdout: Path, evaluation: Path) -> dict[str, Rows]:
    """By place (``heldout/ru-en``), of the artifacts of a run; empty where they are gone, or it translates nothing."""
    found: dict[str, Rows] = {}
    if not (holdout / "corpus.json").exists():
        return found
    for name in ("heldout", *test_sets(holdout)):
        rows = list(read_split(holdout, "heldout" if name == "heldout" else f"test/{name}"))
        for source, target in permutations(rows[0] if rows else (), 2):
            path = evaluation / f"{name}.{source}-{target}.txt"
            if path.exists():
                outputs = tuple(path.read_text("utf-8").split("\n")[:-1])
                sources, references = (tuple(row[side] for row in rows[: len(outputs)]) for side in (source, target))
                found[f"{name}/{source}-{target}"] = Rows(sources, references, outputs)
    return found


def compared(runs: Sequence[Rows]) -> list[Measured]:
    """Each run's chrF on its rows; those with the rows of the first are tested against it."""
    first = runs[0]
    paired = [rows[:2] == first[:2] for rows in runs]
    tested = iter(_measured([rows for rows, with_first in zip(runs, paired, strict=True) if with_first]))
    return [next(tested) if paired[i] else _measured([rows])[0] for i, rows in enumerate(runs)]


def _measured(runs: Sequence[Rows]) -> list[Measured]:
    """The first, and the others held against it; all have the same rows."""
    systems: list[tuple[str, Sequence[str]]] = [(str(number), rows.outputs) for number, rows in enumerate(runs)]
    _, found = PairedTest(systems, {"chrf": CHRF()}, [runs[0].references], "bs", RESAMPLINGS)()
    results = [result for result in found["chrF2"] if isinstance(result, Result)]
    measured = [Measured(result.score, float(result.ci or 0), result.p_value) for result in results]
    # Of equal outputs the library says that they differ for sure.
    alike = [i > 0 and rows.outputs == runs[0].outputs for i, rows in enumerate(runs)]
    return [each._replace(p=1.0) if alike[i] else each for i, each in enumerate(measured)]
