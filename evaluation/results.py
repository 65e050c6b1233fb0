"""What was measured and how it was judged: the forms of evaluation.json, verdict.json and summary.json.

A figure that is missing, NaN, infinite or no number at all is None here, whoever wrote it: a gate fails on it, and
people are shown a dash. Everything else that a run did not reach is empty.

    Evaluation.read("out").score("heldout", "ru-en").chrf
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

from model.errors import ProjectError

NONE = "none"  # the decision that no variant may be published
_CONTROL = dict.fromkeys(code for code in (*range(32), *range(127, 160)) if code not in (9, 10))


class ResultError(ProjectError, ValueError):
    """A result that cannot be read; the message names the file and says why."""


def finite(value: Any) -> Any:
    """The value where it is a finite number, else None; True and False are no numbers."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


def printable(text: object) -> str:
    """Text without control characters and lone surrogates: it can be printed and written whatever a log held."""
    return str(text).translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")


Number = Annotated[float | None, PlainValidator(finite)]


class _Record(BaseModel):
    """Plain data of a JSON file; a null counts as left out, but where it has a meaning."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a JSON file, or the folder that holds it: evaluation.json, verdict.json, summary.json.

        Raises:
            ResultError: where it cannot be read, or is of another kind or version.
        """
        path = Path(path)
        path = path / f"{cls.__name__.lower()}.json" if path.is_dir() else path
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ResultError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise ResultError(f"{path}: no {cls.__name__.lower()} of this version: {_sentence(error)}") from None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        kept = {name for name, field in cls.model_fields.items() if field.is_required() or field.default is None}
        return {key: value for key, value in data.items() if value is not None or key in kept}


class Score(_Record):
    """One test set translated in one direction; BLEU and chrF go from 0 to 100."""

    test_set: str
    direction: str
    segments: int | None = None
    bleu: Number = None
    chrf: Number = None
    beams: int = 1  # width of the search that wrote it; 1 is greedy
    bleu_signature: str = ""
    chrf_signature: str = ""
    copying_chrf: Number = None  # of the sources, handed back as they are
    plain_chrf: Number = None  # of a variation, or a beam search: of the same rows as they are, greedily
    seconds: Number = None  # of translating them

    @property
    def place(self) -> str:
        """Where it was measured, as gates name it: ``heldout/ru-en``."""
        return f"{self.test_set}/{self.direction}"


class Sample(_Record):
    """What a model wrote; without ``chrf`` it is a continuation, for which no text would be right."""

    test_set: str = ""
    direction: str = ""
    source: str = ""
    reference: str = ""
    output: str = ""
    chrf: Number = None


class Search(_Record):
    """A beam search of the same sets, held against greedy; ``plain_chrf`` of its scores is greedy's."""

    beams: int = 1
    scores: list[Score] = []
    chrf: Number = None  # of all rows together
    plain_chrf: Number = None
    p: Number = None  # the chance of such a difference between these two by luck alone

    @property
    def gain(self) -> float | None:
        """chrF gained, as a mean over all test sets and directions; None where one of them is NaN."""
        gains = [s.chrf - s.plain_chrf for s in self.scores if s.chrf is not None and s.plain_chrf is not None]
        return sum(gains) / len(gains) if gains and len(gains) == len(self.scores) else None


class Evaluation(_Record):
    """Everything that was measured on one bundle; losses and entropies are in nats per token."""

    format_version: Literal[2] = 2
    variant: str = ""  # the bundle's precision
    task: str = ""
    bytes: Number = None
    scores: list[Score] = []
    search: Search | None = None  # no gate and no mean counts it, nor these:
    variations: list[Score] = []  # of the same sets, dirty and in pairs
    loss: Number = None
    perplexity: Number = None
    bits_per_character: Number = None
    loss_tokens: int = 0
    losses: dict[str, Number] = {}
    unigram_entropies: dict[str, Number] = {}
    loss_rows: int = 0
    tokens_per_second: dict[str, Number] = {}  # by requests in flight
    speed: dict[str, Any] = {}
    peak_memory_mb: Number = None
    decoding: str = ""
    threads: int | None = None
    provider: str = ""
    hardware: dict[str, Any] = {}
    row_counts: list[dict[str, Any]] = []
    samples: list[Sample] = []
    seconds: Number = None

    def score(self, test_set: str, direction: str) -> Score | None:
        """The score of a test set, or of its variation, in a direction; None where it was not measured."""
        return next((s for s in self.measured if (s.test_set, s.direction) == (test_set, direction)), None)

    @property
    def measured(self) -> list[Score]:
        """Scores, those of a beam search, and those of variations."""
        return [*self.scores, *(self.search.scores if self.search else ()), *self.variations]

    @property
    def is_text(self) -> bool:
        """Whether it is of running text, which has no translation to score."""
        return self.task == "text" or not (self.task or self.scores)

    @property
    def mean_chrf(self) -> float | None:
        """Over all test sets and directions, each counting the same; None where there are none or one is NaN."""
        known = [score.chrf for score in self.scores if score.chrf is not None]
        return sum(known) / len(known) if known and len(known) == len(self.scores) else None

    def figures(self) -> dict[str, Any]:
        """All but the samples, as plain data."""
        return self.model_dump(exclude={"samples"})


class GateResult(_Record):
    """One gate held against one variant; ``passed`` is None where it was skipped, ``value`` where it has none."""

    name: str
    variant: str
    threshold: Number = None
    value: Number = None
    passed: bool | None
    detail: str = ""


class Generation(_Record):
    """How the bundle to publish generates where a request does not say, and why in a sentence."""

    beams: int = 1
    why: str = ""


class Verdict(_Record):
    """Which variant to publish on a machine, "none" where none may be, and the figures of that one."""

    variant: str = NONE
    machine: str = ""
    gates: list[GateResult] = []
    metrics: dict[str, Any] = {}
    generation: Generation = Generation()


class Step(_Record):
    """How a step of the pipeline ended."""

    name: str = ""
    status: str = "ok"
    seconds: Number = None
    error: str = ""
    reused: bool = False  # made before the run went on, and not again


class Published(_Record):
    """The bundle that went out."""

    variant: str = ""
    path: str = ""


class Summary(_Record):
    """A run as it is shown to people, whatever it reached; its texts hold nothing that cannot be printed."""

    run_id: str = ""
    profile: str = ""
    code_version: str = ""
    started: str = ""
    seconds: Number = None
    resumed: list[str] = []  # when the run went on after it was killed or had failed
    status: str = ""  # outcome.py's word; empty before the run's end, as in the gate step's own report
    error: str = ""
    hardware: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    steps: list[Step] = []
    corpus: dict[str, Any] = {}
    tokenizer: dict[str, Any] = {}
    training: dict[str, Any] = {}
    row_counts: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    variants: list[Evaluation] = []
    gates: list[GateResult] = []
    chosen: str = ""  # the gate's choice, which is NONE where it refused; empty where it was not reached
    generation: Generation = Generation()
    published: Published | None = None

    def shown(self) -> Evaluation | None:
        """The variant that the run is known by: the one to publish, or else the first that was measured, if any."""
        name = self.published.variant if self.published else self.chosen
        first = self.variants[0] if self.variants else None
        return next((variant for variant in self.variants if variant.variant == name), first)

    def places(self) -> list[list[Score]]:
        """Every variant's score in turn, an empty one where it has none, for each place that any was measured in."""
        measured = {score.place: score for variant in self.variants for score in variant.measured}
        empty = [Score(test_set=score.test_set, direction=score.direction) for score in measured.values()]
        return [[v.score(each.test_set, each.direction) or each for v in self.variants] for each in empty]

    @model_validator(mode="before")
    @classmethod
    def _printable(cls, data: Any) -> Any:
        return data if isinstance(data, cls) else _cleaned(data)  # one that is made already is clean


def _cleaned(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _cleaned(value.model_dump())
    if isinstance(value, Mapping):
        return {printable(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
    return str(error)
