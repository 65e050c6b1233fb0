"""What the benchmarks of translations have in common: a bundle that translates, and test sets both ways."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import BenchmarkError
from evaluation.prompts import directions
from model.bundle import Bundle
from model.corpus.files import SourceFile
from model.corpus.reading import Tally, read_pairs
from model.options import Parser

Pairs = Sequence[tuple[str, str]]


class Way(NamedTuple):
    """A test set in one direction: pairs of a source and its reference."""

    test_set: str
    source: str
    target: str
    pairs: Pairs

    @property
    def place(self) -> dict[str, str]:
        """What a record of it begins with."""
        return {"test_set": self.test_set, "direction": f"{self.source}-{self.target}"}


def load(path: Path) -> Bundle:
    """A bundle that translates.

    Raises:
        BenchmarkError: for one that continues text.
    """
    bundle = Bundle.load(path)
    if bundle.task != "translation":
        raise BenchmarkError(f"{path}: continues text; a translation model is asked for")
    return bundle


def named(bundle: Bundle) -> str:
    """What a result calls a bundle: its run, or the folder that it lies in."""
    return bundle.identity["run_id"] or bundle.path.name


def read(path: Path, languages: Sequence[str]) -> Pairs:
    """The rows of a file, sides in the order of the languages."""
    return [
        (first, second)
        for first, second, _ in read_pairs(SourceFile(str(path), path.name), languages, Tally(languages))
    ]


def both_ways(bundle: Bundle, tests: dict[str, Pairs]) -> Iterator[Way]:
    """Each test set, whose sides are in the order of the bundle's languages, in each direction."""
    for name, pairs in tests.items():
        for source, target in directions(bundle):
            yield Way(name, source, target, from_side(bundle, source, pairs))


def from_side(bundle: Bundle, source: str, pairs: Pairs) -> Pairs:
    """Pairs whose sides are in the order of the bundle's languages, the source's side first."""
    return pairs if source == bundle.languages[0] else [(second, first) for first, second in pairs]


def parser(name: str, documentation: str | None, out: Path) -> Parser:
    """A command line that begins with a bundle, and ends with where the result is kept."""
    made = Parser(name, documentation)
    made.add_argument("bundle", type=Path, help="a bundle of a translation model")
    made.add_argument("--out", type=Path, default=out, help="where the result is kept")
    return made


def add_tests(made: Parser) -> None:
    """Test sets, after the bundle."""
    made.add_argument("tests", type=Path, nargs="+", help="test sets: .tsv, or another type of a corpus")
