"""The gates: what a variant must reach to be published, each with its threshold, its value and a verdict.

Two floors need no number and always hold, whatever the config says, because garbage must never be published: on the
held-out split a translation must score more than its untranslated source does, and the loss must be below the unigram
entropy, which is the best that a model could reach without looking at the context. Both are taken in each direction.
Test sets are left out of them: what a person brings may be all placeholders, where a copy cannot be beaten, or of a
kind of text that nobody trained on; whoever wants a floor there sets min_chrf.

A gate that cannot be measured fails: a NaN, a missing row or a missing variant must never publish a model. The one
exception is a floor for a test set that this run was not given (no TEST=...): it is reported as skipped, passed=None.
What can be seen beforehand to be impossible is told by :func:`impossible`, before anything runs.

    python -m evaluation.gate fp32/evaluation.json int8/evaluation.json --floor heldout/ru-en=50
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.config import GateConfig

# Published for the machine at hand: int8 is the fastest on a CPU; a GPU computes fp16 natively and int8 poorly.
PREFERENCE = {"cpu": ("int8", "fp32", "fp16"), "gpu": ("fp16", "fp32")}
BASELINE = "fp32"
COMPARED = ("fp16", "int8")
# Thresholds are met when reached: 57.0 -> 56.43 is a loss of 1 % whatever the last binary digit says.
_EPSILON = 1e-9

Evaluations = Mapping[str, Mapping[str, Any]]


def gate(evaluations: Evaluations, config: GateConfig) -> list[dict[str, Any]]:
    """Judge every variant (``{"fp32": evaluation, "int8": ...}``) against every gate of the config.

    Returns:
        Rows ``{"name", "variant", "threshold", "value", "passed", "detail"}`` named as in the config (and
        "min_chrf test_docs/ru-en"), and "copying heldout/ru-en" and "unigram ru-en" for the two floors that always
        hold. ``passed`` is True, False, or None where the gate was skipped; ``value`` is None where nothing could be
        measured.

    Raises:
        ValueError: where there is no evaluation at all.
    """
    if not evaluations:
        raise ValueError("no evaluations were given: nothing can be judged, and so nothing published")
    rows = [_relative_loss(evaluations, variant, limit) for variant, limit in config.max_chrf_loss.items()]
    rows += [_bytes_ratio(evaluations, variant, limit) for variant, limit in config.max_bytes_ratio.items()]
    for place, floor in config.min_chrf.items():
        rows += _floor(evaluations, place, floor)
    if config.max_loss > 0:
        rows += [
            _at_most(
                "max_loss", variant, config.max_loss, _number(evaluation.get("loss")), "held-out loss, nats per token"
            )
            for variant, evaluation in evaluations.items()
        ]
    advised = set[str]()
    for row in _garbage_floors(evaluations):
        if row["passed"] is False and row["name"] in advised:
            row["detail"] = ""  # a variant of garbage is garbage: its figures are told, the advice is given once
        elif row["passed"] is False:
            advised.add(row["name"])
        rows.append(row)
    return rows


def failed(gates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that fail; skipped ones do not."""
    return [row for row in gates if row["passed"] is False]


def choose(evaluations: Evaluations, gates: list[dict[str, Any]], machine: str) -> str | None:
    """The variant to publish on a "cpu" or "gpu" machine, or None where none may be.

    A variant may be published when none of its gates failed, and only if the baseline (fp32) was measured and failed
    none either: a variant close to a bad model is a bad model.
    """
    if machine not in PREFERENCE:
        raise ValueError(f"machine must be one of {', '.join(PREFERENCE)}, not {machine!r}")
    barred = {row["variant"] for row in failed(gates)}
    if BASELINE not in evaluations or BASELINE in barred:
        return None
    return next((v for v in PREFERENCE[machine] if v in evaluations and v not in barred), None)


def mean_chrf(evaluation: Mapping[str, Any]) -> float | None:
    """Mean chrF over all test sets and directions, each counting the same; None where there are none or one is NaN."""
    scores = [_number(row.get("chrf")) for row in evaluation.get("rows") or []]
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else None


def _garbage_floors(evaluations: Evaluations) -> Iterator[dict]:
    """The floors that need no number, for every variant and direction that any variant was measured in."""
    places = sorted({d for e in evaluations.values() for d in [*(e.get("losses") or {}), *_heldout(e)]})
    for variant, evaluation in evaluations.items():
        for direction in [] if _is_text(evaluation) else places or ["?"]:
            row = _heldout(evaluation).get(direction) or {}
            yield _beyond(
                f"copying heldout/{direction}", variant, _number(row.get("copying_chrf")), _number(row.get("chrf")),
                "no more than handing back the source untranslated", 1,
            )  # fmt: skip
        for direction in places or ["?"]:
            entropy, loss = ((evaluation.get(key) or {}).get(direction) for key in ("unigram_entropies", "losses"))
            yield _beyond(
                f"unigram {direction}", variant, _number(entropy), _number(loss),
                "no better than knowing how often each token occurs", -1,
            )  # fmt: skip


def _beyond(name: str, variant: str, threshold: float | None, value: float | None, shame: str, sign: int) -> dict:
    """A row that passes strictly above (sign 1) or below (-1) its threshold, which was measured on the same rows."""
    if threshold is None or value is None:
        missing = "no held-out row fits the network (network.max_positions), or the figure is not a number"
        return _row(name, variant, threshold, missing, value=value)
    passed = sign * (value - threshold) > 0
    cure = f"{shame}: train longer (training.steps) and look at the loss curve in the report"
    return _row(name, variant, threshold, "" if passed else cure, value=value, passed=passed)


def _heldout(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["direction"]: row for row in evaluation.get("rows") or [] if row["test_set"] == "heldout"}


def _is_text(evaluation: Mapping[str, Any]) -> bool:
    return evaluation.get("task") == "text" or (not evaluation.get("rows") and "task" not in evaluation)


def _row(name: str, variant: str, threshold: float | None, detail: str, **verdict: Any) -> dict:
    """A row of the result; without a verdict it is one that could not be measured, and fails."""
    judged = {"value": None, "passed": False, **verdict}
    return {"name": name, "variant": variant, "threshold": threshold, **judged, "detail": detail}


def _at_most(name: str, variant: str, limit: float, value: float | None, detail: str) -> dict:
    if value is None:
        return _row(name, variant, limit, f"{detail}: missing or not a number")
    return _row(name, variant, limit, detail, value=value, passed=value <= limit + _EPSILON)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _absent(evaluations: Evaluations, variant: str) -> str:
    missing = [v for v in (BASELINE, variant) if v not in evaluations]
    return f"no evaluation of {' and '.join(missing)} was given" if missing else ""


def _relative_loss(evaluations: Evaluations, variant: str, limit: float) -> dict:
    name = "max_chrf_loss"
    if absent := _absent(evaluations, variant):
        return _row(name, variant, limit, absent)
    base, mine = evaluations[BASELINE], evaluations[variant]
    if _is_text(base):
        return _loss_increase(name, variant, limit, base, mine)
    base_rows = {(r["test_set"], r["direction"]): _number(r.get("chrf")) for r in base.get("rows") or []}
    my_rows = {(r["test_set"], r["direction"]): _number(r.get("chrf")) for r in mine.get("rows") or []}
    if not base_rows:
        return _row(name, variant, limit, f"{BASELINE} has no chrF to compare with")
    if base_rows.keys() != my_rows.keys():
        odd = ", ".join(sorted("/".join(key) for key in base_rows.keys() ^ my_rows.keys()))
        return _row(name, variant, limit, f"{variant} and {BASELINE} were not measured on the same: {odd}")
    for label, rows in ((BASELINE, base_rows), (variant, my_rows)):
        if bad := [key for key, score in rows.items() if score is None]:
            return _row(name, variant, limit, f"chrF of {label} on {'/'.join(bad[0])} is missing or NaN")
    pairs = {key: (base_rows[key] or 0.0, my_rows[key] or 0.0) for key in base_rows}
    base_mean = sum(b for b, _ in pairs.values()) / len(pairs)
    my_mean = sum(m for _, m in pairs.values()) / len(pairs)
    if base_mean <= 0:
        return _row(name, variant, limit, f"mean chrF of {BASELINE} is 0: nothing can be compared with it")
    worst = max(pairs, key=lambda key: pairs[key][0] - pairs[key][1])
    detail = (
        f"mean chrF {base_mean:.2f} → {my_mean:.2f}; worst on {'/'.join(worst)}: "
        f"{pairs[worst][0]:.2f} → {pairs[worst][1]:.2f}"
    )
    return _at_most(name, variant, limit, (base_mean - my_mean) / base_mean, detail)


def _loss_increase(name: str, variant: str, limit: float, base: Mapping, mine: Mapping) -> dict:
    """Running text has no translation to score: the same share bounds the rise of the held-out loss instead."""
    before, after = _number(base.get("loss")), _number(mine.get("loss"))
    if before is None or after is None or before <= 0:
        who = variant if after is None else BASELINE
        return _row(name, variant, limit, f"held-out loss of {who} is missing, NaN or not above 0")
    detail = f"no translations to score, so the rise of the held-out loss: {before:.4f} → {after:.4f} nats per token"
    return _at_most(name, variant, limit, (after - before) / before, detail)


def _bytes_ratio(evaluations: Evaluations, variant: str, limit: float) -> dict:
    name = "max_bytes_ratio"
    if absent := _absent(evaluations, variant):
        return _row(name, variant, limit, absent)
    base, mine = _number(evaluations[BASELINE].get("bytes")), _number(evaluations[variant].get("bytes"))
    if not base or not mine or base < 0 or mine < 0:
        return _row(name, variant, limit, f"bytes of {BASELINE} ({base}) or {variant} ({mine}) are missing")
    return _at_most(name, variant, limit, mine / base, f"{base / 1e6:.1f} MB → {mine / 1e6:.1f} MB")


def _floor(evaluations: Evaluations, place: str, floor: float) -> list[dict]:
    """A row a variant; one row for all of them where the test set was not given to the run."""
    name = f"min_chrf {place}"
    test_set, _, direction = place.rpartition("/")
    measured = {(r["test_set"], r["direction"]) for e in evaluations.values() for r in e.get("rows") or []}
    given = sorted({t for t, _ in measured})
    if test_set and direction and given and test_set not in given and test_set != "heldout":
        detail = (
            f"SKIPPED {place}: test set {test_set!r} was not given to this run (TEST=...); given: {', '.join(given)}"
        )
        return [_row(name, "all", floor, detail, passed=None)]
    rows = []
    for variant, evaluation in evaluations.items():
        found = [r for r in evaluation.get("rows") or [] if (r["test_set"], r["direction"]) == (test_set, direction)]
        if not test_set or not direction:
            rows.append(_row(name, variant, floor, f"{place!r} is not 'test set/direction', as in 'heldout/ru-en'"))
        elif not found:
            known = ", ".join(sorted("/".join(key) for key in measured)) or "nothing"
            rows.append(_row(name, variant, floor, f"{variant} has no such row; measured: {known}"))
        elif (value := _number(found[0].get("chrf"))) is None:
            rows.append(_row(name, variant, floor, "chrF is missing or NaN"))
        else:
            bleu = _number(found[0].get("bleu"))
            detail = f"BLEU {bleu:.1f}" if bleu is not None else ""
            rows.append(_row(name, variant, floor, detail, value=value, passed=value >= floor - _EPSILON))
    return rows


def main() -> int:
    """Judge evaluation.json files from the command line; 1 where a gate fails."""
    parser = argparse.ArgumentParser(description="Judge evaluation.json files against the gates.")
    parser.add_argument("evaluations", nargs="+", type=Path, help="evaluation.json of each variant, fp32 among them")
    parser.add_argument("--floor", action="append", default=[], metavar="SET/DIRECTION=CHRF")
    arguments = parser.parse_args()
    loaded = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.evaluations]
    evaluations = {evaluation["variant"]: evaluation for evaluation in loaded}
    floors = {place: float(value) for place, _, value in (item.rpartition("=") for item in arguments.floor)}
    gates = gate(evaluations, GateConfig(min_chrf=floors))
    for row in gates:
        verdict = {True: "pass", False: "FAIL", None: "skip"}[row["passed"]]
        print(verdict, row["variant"], row["name"], row["value"], "threshold", row["threshold"], row["detail"])
    print("publish on cpu:", choose(evaluations, gates, "cpu"), " on gpu:", choose(evaluations, gates, "gpu"))
    return 1 if failed(gates) else 0


if __name__ == "__main__":
    sys.exit(main())
