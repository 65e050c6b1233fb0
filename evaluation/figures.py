"""How figures are written for people, the same way in the terminal's table and in the HTML report.

A missing figure is a dash: a partial run's report must never fail on what the run did not reach.

    python -c "from evaluation.figures import duration; print(duration(2712))"
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from evaluation.results import Evaluation, GateResult, Score, finite

MISSING = "–"
_VERDICTS = {True: "pass", False: "FAIL", None: "skipped"}

# Gate name -> label, unit of its value and threshold, how the threshold binds.
_GATES = {
    "max_chrf_loss": ("quality lost against fp32", "%", "≤"),
    "max_bytes_ratio": ("bytes against fp32", "%", "≤"),
    "min_chrf": ("chrF floor", "", "≥"),
    "max_loss": ("held-out loss, nats/token", "nats", "≤"),
    "copying": ("chrF against copying the source,", "", ">"),
    "unigram": ("loss against unigram entropy,", "nats", "<"),
}


def decimal(value: Any, places: int = 1) -> str:
    """A number with fixed places and thousands separated; a dash for None, NaN or anything else."""
    return MISSING if finite(value) is None else f"{value:,.{places}f}"


def change(score: Score) -> str:
    """What a variation's chrF differs by from that of the same rows as they are; empty for other scores."""
    if score.chrf is None or score.plain_chrf is None:
        return ""
    return f" ({score.chrf - score.plain_chrf:+.1f})".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands separated."""
    return decimal(value, 0)


def megabytes(value: Any) -> str:
    """Bytes as MB (10^6)."""
    return MISSING if finite(value) is None else f"{value / 1e6:,.1f} MB"


def duration(seconds: Any) -> str:
    """Seconds as 3.2 s, 45 min 12 s or 2 h 05 min."""
    if finite(seconds) is None:
        return MISSING
    if seconds < 59.95:  # rounds to less than 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def costs(variants: Sequence[Evaluation]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each variant takes: by label, its figure and, where that tells something, the figure's ratio to fp32's."""
    base = next((variant for variant in variants if variant.variant == "fp32"), Evaluation())
    rows = [("Size", [(megabytes(v.bytes), _ratio(v.bytes, base.bytes, percent=True)) for v in variants])]
    for label, key in (
        ("Held-out loss, nats/token", "loss"),
        ("Perplexity", "perplexity"),
        ("Bits per character", "bits_per_character"),
    ):
        figures = [getattr(variant, key) for variant in variants]
        if key == "loss" or any(figure is not None for figure in figures):
            rows.append((label, [(decimal(figure, 3), "") for figure in figures]))
    for batch, label in (("1", "Tokens/s, one request"), ("32", "Tokens/s, 32 requests")):
        speeds, at_base = [v.tokens_per_second.get(batch) for v in variants], base.tokens_per_second.get(batch)
        rows.append((label, [(count(speed), _ratio(speed, at_base)) for speed in speeds]))
    if any(variant.search for variant in variants):
        greedy = [texts_per_second(v.scores if v.search else ()) for v in variants]
        searched = [texts_per_second(v.search.scores if v.search else ()) for v in variants]
        rows.append(("Texts/s in the test sets, greedy", [(decimal(figure), "") for figure in greedy]))
        rows.append(
            (
                "Texts/s, with beams",
                [(decimal(one), _ratio(one, other)) for one, other in zip(searched, greedy, strict=True)],
            )
        )
    return [*rows, ("Peak memory, MB", [(count(v.peak_memory_mb), "") for v in variants])]


def texts_per_second(scores: Iterable[Score]) -> float | None:
    """Rows that were translated in a second, of all sets together; None where there are none, or one was not timed."""
    timed = [(score.segments or 0, score.seconds or 0.0) for score in scores]
    if not timed or not all(rows and seconds for rows, seconds in timed):
        return None
    return sum(rows for rows, _ in timed) / sum(seconds for _, seconds in timed)


def _ratio(value: float | None, reference: float | None, percent: bool = False) -> str:
    """A value as a share or a multiple of another; empty where either is missing, not above 0, or both are equal."""
    if not value or not reference or value == reference or min(value, reference) < 0:
        return ""
    return f"{value / reference:.0%}" if percent else f"{value / reference:.2g}×"


def processor(hardware: Mapping[str, Any]) -> str:
    """The processor that a figure was measured on, with its instructions: what int8 computes depends on them."""
    parts = [str(hardware.get("cpu") or "CPU"), *map(str, hardware.get("instructions") or [])]
    cores = f"{' '.join(parts)}, {hardware.get('cores', '?')} cores"
    return f"{cores}, int8 products {hardware['int8_products']}" if hardware.get("int8_products") else cores


def gate_figures(gate: GateResult) -> tuple[str, str, str]:
    """Label, value and bound of a gate, in words: ("quality lost against fp32", "1.60 %", "≤ 5 %")."""
    kind, _, place = gate.name.partition(" ")
    label, unit, bound = _GATES.get(kind, (kind, "", "against"))

    def written(value: float | None, trimmed: bool = False) -> str:
        if value is None:
            return MISSING
        text = f"{100 * value:.2f}" if unit == "%" else f"{value:.3f}" if unit == "nats" else f"{value:.2f}"
        text = text.rstrip("0").rstrip(".") if trimmed else text
        return f"{text} %" if unit == "%" else text

    return f"{label} {place}".strip(), written(gate.value), f"{bound} {written(gate.threshold, trimmed=True)}"


def last_line(error: str) -> str:
    """The last line of an error or traceback that is not empty: the one that names the exception."""
    return next((line.strip() for line in reversed(error.splitlines()) if line.strip()), "")


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two spaces apart; the first ``left`` of them flush left, the others right; empty without rows."""
    sides = ["left" if i < left else "right" for i in range(len(head))]
    text = tabulate([head, *rows], tablefmt="plain", colalign=sides, disable_numparse=True) if rows else ""
    return "\n".join(line.rstrip() for line in text.splitlines())


def gate_table(gates: Sequence[GateResult]) -> str:
    """One line a gate, then why gates were skipped; empty without gates."""
    figures = [(gate, *gate_figures(gate)) for gate in gates]
    rows = [[label, gate.variant, _VERDICTS[gate.passed], value, bound] for gate, label, value, bound in figures]
    skipped = [f"  {gate.detail}" for gate in gates if gate.passed is None]
    return "\n".join([aligned(["gate", "variant", "verdict", "value", "bound"], rows, 3), *dict.fromkeys(skipped)])
