"""The gates: what a variant must reach to be published, each with its threshold, its value and a verdict; the choice.

Two floors need no number and always hold, whatever the config says, because garbage must never be published: on the
held-out split a translation must score more than its untranslated source does, and the loss must be below the unigram
entropy, which is the best that a model could reach without looking at the context. Both are taken in each direction.
Test sets are left out of them: what a person brings may be all placeholders, where a copy cannot be beaten, or of a
kind of text that nobody trained on; whoever wants a floor there sets min_chrf.

A gate that cannot be measured fails: a NaN, a missing score or a missing variant must never publish a model. The one
exception is a floor for a test set that this run was not given (no TEST=...): it is reported as skipped, passed=None.

    python -m evaluation.gate fp32/evaluation.json int8/evaluation.json --floor heldout/ru-en=50
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from evaluation.figures import gate_table
from evaluation.gathered import gather
from evaluation.generation import generation
from evaluation.outcome import held_back, reasons
from evaluation.report.page import render_report
from evaluation.results import NONE, Evaluation, GateResult, Generation, Score, Summary, Verdict
from model.config import GateConfig, from_dict
from model.errors import ProjectError
from model.files import write_json, write_text
from model.options import FAILED, OK, Parser, run

# Published for the machine at hand: int8 is the fastest on a CPU; a GPU computes fp16 natively and int8 poorly.
PREFERENCE = {"cpu": ("int8", "fp32", "fp16"), "gpu": ("fp16", "fp32")}
BASELINE = "fp32"
# Thresholds are met when reached: 57.0 -> 56.43 is a loss of 1 % whatever the last binary digit says.
_EPSILON = 1e-9
HELDOUT = "heldout"

Evaluations = Mapping[str, Evaluation]
Measure = Callable[[Evaluations, str], tuple[float, str]]  # of a variant: the value and a detail, or _Unmeasured


class RefusedError(ProjectError, RuntimeError):
    """No variant may be published."""


class _Unmeasured(Exception):
    """What a gate asks for is not there; the message says what is missing."""


def gate(evaluations: Evaluations, config: GateConfig) -> list[GateResult]:
    """Judge every variant (``{"fp32": evaluation, "int8": ...}``) against every gate of the config.

    Returns:
        Results named as in the config (and "min_chrf test_docs/ru-en"), and "copying heldout/ru-en" and "unigram ru-en"
        for the two floors that always hold.

    Raises:
        ValueError: where there is no evaluation at all.
    """
    if not evaluations:
        raise ValueError("no evaluations were given: nothing can be judged, and so nothing published")
    judged = partial(_judged, evaluations)
    return [
        *(judged("max_chrf_loss", *bound, _quality_lost) for bound in config.max_chrf_loss.items()),
        *(judged("max_bytes_ratio", *bound, _share_of_bytes) for bound in config.max_bytes_ratio.items()),
        *(result for bound in config.min_chrf.items() for result in _chrf_floor(evaluations, *bound)),
        *(judged("max_loss", each, config.max_loss, _heldout_loss) for each in evaluations if config.max_loss > 0),
        *_garbage_floors(evaluations),
    ]


def failed(gates: Sequence[GateResult]) -> list[GateResult]:
    """The gates that fail; skipped ones do not."""
    return [result for result in gates if result.passed is False]


def choose(evaluations: Evaluations, gates: Sequence[GateResult], machine: str) -> str | None:
    """The variant to publish on a "cpu" or "gpu" machine, or None where none may be.

    A variant may be published when none of its gates failed, and only if the baseline (fp32) was measured and failed
    none either: a variant close to a bad model is a bad model.
    """
    if machine not in PREFERENCE:
        raise ValueError(f"machine must be one of {', '.join(PREFERENCE)}, not {machine!r}")
    barred = {result.variant for result in failed(gates)}
    if BASELINE not in evaluations or BASELINE in barred:
        return None
    return next((v for v in PREFERENCE[machine] if v in evaluations and v not in barred), None)


def decide(
    evaluations: Mapping[str, str],
    config: GateConfig,
    machine: str,
    out: str,
    report: str,
    corpus: str | None = None,
    tokenizer: str | None = None,
    checkpoint: str | None = None,
) -> str:
    """Judge the evaluation directories; write ``out``/verdict.json, ``out``/summary.json and the HTML ``report``.

    The summary, and the report with it, tell what ``corpus``, ``tokenizer`` and ``checkpoint`` do of themselves, too.

    Returns:
        The variant to publish on this machine ("cpu" or "gpu"), or "none".
    """
    measured = {variant: Evaluation.read(path) for variant, path in evaluations.items()}
    gates = gate(measured, config)
    chosen = choose(measured, gates, machine)
    metrics = measured[chosen].figures() if chosen else {}
    default = generation(measured[chosen], config) if chosen else Generation()
    verdict = Verdict(variant=chosen or NONE, machine=machine, gates=gates, metrics=metrics, generation=default)
    write_json(Path(out) / "verdict.json", verdict.model_dump())
    figures = gather(corpus, tokenizer, checkpoint, list(evaluations.values()), out)
    write_json(Path(out) / "summary.json", figures)
    summary = Summary.model_validate(figures)
    write_text(Path(report), render_report(summary))
    for each, why in held_back(summary).items():
        print(f"WARNING: {each} is held back:", *why, sep="\n  ")
    print(f"to be published for a {machine} machine: {verdict.variant}")
    if default.why:
        print(f"beams by default: {default.beams} ({default.why})")
    return verdict.variant


def refuse(verdict: str | Path) -> NoReturn:
    """Print why no variant may be published, and raise.

    Raises:
        RefusedError: always.
    """
    judged = Verdict.read(verdict)
    for reason in reasons(Summary(gates=judged.gates, chosen=NONE)):
        print(reason)
    names = ", ".join(dict.fromkeys(f"{result.name} of {result.variant}" for result in failed(judged.gates)))
    raise RefusedError(f"nothing is published: no variant passed its gates; failed: {names or 'fp32 was not measured'}")


def _judged(
    evaluations: Evaluations, name: str, variant: str, threshold: float, measure: Measure, sign: int = 1
) -> GateResult:
    """A variant's value held against the most (sign 1) or the least (-1) that it may be."""
    value: float | None
    try:
        value, detail = measure(evaluations, variant)
    except _Unmeasured as error:
        value, detail = None, str(error)
    passed = value is not None and sign * (value - threshold) <= _EPSILON
    return GateResult(name=name, variant=variant, threshold=threshold, value=value, passed=passed, detail=detail)


def _quality_lost(evaluations: Evaluations, variant: str) -> tuple[float, str]:
    """Share of the mean chrF that a variant loses; of running text, the share by which its held-out loss rises."""
    base, mine = _compared(evaluations, variant)
    if base.is_text:
        if base.loss is None or mine.loss is None or base.loss <= 0:
            who = variant if mine.loss is None else BASELINE
            raise _Unmeasured(f"held-out loss of {who} is missing, NaN or not above 0")
        detail = f"the rise of the held-out loss: {base.loss:.4f} → {mine.loss:.4f} nats per token"
        return (mine.loss - base.loss) / base.loss, f"no translations to score, so {detail}"
    before, after = _chrf_by_place(BASELINE, base), _chrf_by_place(variant, mine)
    if not before:
        raise _Unmeasured(f"{BASELINE} has no chrF to compare with")
    if odd := sorted(before.keys() ^ after.keys()):
        raise _Unmeasured(f"{variant} and {BASELINE} were not measured on the same: {', '.join(odd)}")
    base_mean, my_mean = (sum(scores[place] for place in before) / len(before) for scores in (before, after))
    if base_mean <= 0:
        raise _Unmeasured(f"mean chrF of {BASELINE} is 0: nothing can be compared with it")
    worst = max(before, key=lambda place: before[place] - after[place])
    detail = f"mean chrF {base_mean:.2f} → {my_mean:.2f}; worst on {worst}: {before[worst]:.2f} → {after[worst]:.2f}"
    return (base_mean - my_mean) / base_mean, detail


def _chrf_by_place(variant: str, evaluation: Evaluation) -> dict[str, float]:
    known = {score.place: score.chrf for score in evaluation.scores if score.chrf is not None}
    if bad := [score.place for score in evaluation.scores if score.chrf is None]:
        raise _Unmeasured(f"chrF of {variant} on {bad[0]} is missing or NaN")
    return known


def _share_of_bytes(evaluations: Evaluations, variant: str) -> tuple[float, str]:
    base, mine = (evaluation.bytes or 0 for evaluation in _compared(evaluations, variant))
    if base <= 0 or mine <= 0:
        raise _Unmeasured(f"bytes of {BASELINE} ({base}) or {variant} ({mine}) are missing")
    return mine / base, f"{base / 1e6:.1f} MB → {mine / 1e6:.1f} MB"


def _compared(evaluations: Evaluations, variant: str) -> tuple[Evaluation, Evaluation]:
    if missing := [name for name in (BASELINE, variant) if name not in evaluations]:
        raise _Unmeasured(f"no evaluation of {' and '.join(missing)} was given")
    return evaluations[BASELINE], evaluations[variant]


def _chrf_floor(evaluations: Evaluations, place: str, floor: float) -> list[GateResult]:
    """For every variant; skipped once for all of them where the test set was not given to the run."""
    test_set, _, direction = place.rpartition("/")
    scores = [score for evaluation in evaluations.values() for score in evaluation.scores]
    given, name = sorted({score.test_set for score in scores}), f"min_chrf {place}"
    if test_set and direction and given and test_set not in (HELDOUT, *given):
        lacking = f"test set {test_set!r} was not given to this run (TEST=...); given: {', '.join(given)}"
        detail = f"SKIPPED {place}: {lacking}"
        return [GateResult(name=name, variant="all", threshold=floor, passed=None, detail=detail)]

    def chrf(evaluations: Evaluations, variant: str) -> tuple[float, str]:
        if not test_set or not direction:
            raise _Unmeasured(f"{place!r} is not 'test set/direction', as in 'heldout/ru-en'")
        score = evaluations[variant].score(test_set, direction)
        if score is None:
            known = ", ".join(sorted({each.place for each in scores}))
            raise _Unmeasured(f"{variant} has no such score; measured: {known or 'nothing'}")
        if score.chrf is None:
            raise _Unmeasured("chrF is missing or NaN")
        return score.chrf, "" if score.bleu is None else f"BLEU {score.bleu:.1f}"

    return [_judged(evaluations, name, variant, floor, chrf, sign=-1) for variant in evaluations]


def _heldout_loss(evaluations: Evaluations, variant: str) -> tuple[float, str]:
    detail, loss = "held-out loss, nats per token", evaluations[variant].loss
    if loss is None:
        raise _Unmeasured(f"{detail}: missing or not a number")
    return loss, detail


def _garbage_floors(evaluations: Evaluations) -> Iterator[GateResult]:
    """The floors that need no number, for every variant and direction that any variant was measured in."""
    directions = {direction for evaluation in evaluations.values() for direction in evaluation.losses}
    directions |= {s.direction for e in evaluations.values() for s in e.scores if s.test_set == HELDOUT}
    advised = set[str]()
    for variant, evaluation in evaluations.items():
        for name, threshold, value, sign, shame in _garbage(evaluation, sorted(directions) or ["?"]):
            passed = threshold is not None and value is not None and sign * (value - threshold) > 0
            detail = ""
            if not passed and name not in advised:  # a variant of garbage is garbage: the advice is given once
                advised.add(name)
                detail = f"{shame}: train longer (training.steps) and look at the loss curve in the report"
                if threshold is None or value is None:
                    detail = "no held-out row fits the network (network.max_positions), or the figure is not a number"
            yield GateResult(name=name, variant=variant, threshold=threshold, value=value, passed=passed, detail=detail)


def _garbage(
    evaluation: Evaluation, directions: Sequence[str]
) -> Iterator[tuple[str, float | None, float | None, int, str]]:
    """What a value must be strictly above (sign 1) or below (-1), which was measured on the same rows."""
    for direction in () if evaluation.is_text else directions:
        score = evaluation.score(HELDOUT, direction) or Score(test_set=HELDOUT, direction=direction)
        shame = "no more than handing back the source untranslated"
        yield f"copying {score.place}", score.copying_chrf, score.chrf, 1, shame
    for direction in directions:
        entropy, loss = evaluation.unigram_entropies.get(direction), evaluation.losses.get(direction)
        yield f"unigram {direction}", entropy, loss, -1, "no better than knowing how often each token occurs"


def parser() -> Parser:
    """The command line."""
    made = Parser("evaluation.gate", "Judge evaluations by the gates; exit status 1 where one fails.")
    made.add_argument("evaluations", nargs="+", type=Path, help="evaluation.json of each variant, fp32 among them")
    made.add_argument(
        "--floor", action="append", default=[], type=_floor, metavar="SET/DIRECTION=CHRF", help="least chrF; repeatable"
    )
    return made


def _floor(text: str) -> tuple[str, str]:
    place, _, chrf = text.rpartition("=")
    if "/" not in place:
        raise argparse.ArgumentTypeError(f"{text!r} is not SET/DIRECTION=CHRF, as in heldout/ru-en=50")
    return place, chrf


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, and print the gates and the choice."""
    options = parser().parse_args(argv)
    evaluations = {evaluation.variant: evaluation for evaluation in map(Evaluation.read, options.evaluations)}
    gates = gate(evaluations, from_dict(GateConfig, {"min_chrf": dict(options.floor)}, "gate"))
    print(gate_table(gates))
    print("publish on cpu:", choose(evaluations, gates, "cpu"), " on gpu:", choose(evaluations, gates, "gpu"))
    return FAILED if failed(gates) else OK


if __name__ == "__main__":
    sys.exit(run(main))
