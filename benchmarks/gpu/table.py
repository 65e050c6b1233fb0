"""What the check found, as the table of the documents: a column for each GPU."""

from collections.abc import Sequence
from typing import Any

from benchmarks.machine import markdown

NOTHING = "No GPU has been measured yet."
UNKNOWN = "–"

Json = dict[str, Any]


def gpu_table(results: Sequence[Json]) -> str:
    """Markdown: figures in lines, GPUs in columns; a sentence where none has been measured."""
    if not results:
        return NOTHING
    columns = [_lines(result) for result in results]
    names = [_at(result, "precision", "device", "name") or "unknown" for result in results]
    rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
    return f"{markdown(['', *map(str, names)], rows)}\n\n{' '.join(map(_caption, results))}"


def _lines(result: Json) -> dict[str, str]:
    """A label and a figure for each line."""
    run = _part(result, "training")
    flops, pace = run.get("flops", {}), run.get("pace", {})
    speeds, errors = (_at(result, part, "precisions") or {} for part in ("precision", "parity"))
    waits = [(_at(result, "precision", "waits", count) or {}).get("calls") for count in ("1", "4")]
    resume, group = _part(result, "resume"), _part(result, "group")
    memory = run.get("memory_mb") or {}
    return {
        "precision chosen": _at(result, "precision", "chosen") or UNKNOWN,
        "tokens/s of steps in fp32 / bf16 / fp16": _each(speeds, "tokens_per_second", ",.0f"),
        f"training `{run.get('profile', 'full')}`, tokens/s": _number(run.get("tokens_per_second"), ",.0f"),
        "steps, tokens, minutes": _how_far(run),
        "validation loss at a quarter, half, three quarters, the end": _on_the_way(run.get("validation", [])),
        "TFLOP/s": _number(flops.get("tflops"), ".3g"),
        "share of its fastest product": _number(flops.get("share_of_product"), ".1%"),
        "share of the data sheet": _number(flops.get("share_of_data_sheet"), ".1%"),
        "share of a step that waits for its batch": _number(pace.get("share_waiting_for_batches"), ".0%"),
        "memory, MB": _number(memory.get("allocated"), ",.0f"),
        "gradients' distance from the CPU's, fp32 / bf16 / fp16": _each(errors, "gradient_error", ".1e"),
        "killed and resumed: same weights": _yes(resume.get("same_weights")),
        "a run repeats itself without being asked to": _yes(resume.get("repeats_itself_by_default")),
        "data-parallel": str(group.get("status", UNKNOWN)),
        "waits for the GPU in a step of 1 / 4 micro-batches": " / ".join(_number(count, "d") for count in waits),
    }


def _caption(result: Json) -> str:
    versions = _at(result, "precision", "device", "versions") or {}
    formula = (_part(result, "training").get("flops") or {}).get("formula", "")
    failed = [name for name, part in result["parts"].items() if not part["measured"]]
    lost = f" Not measured: {', '.join(failed)}." if failed else ""
    arithmetic = f" Arithmetic: {formula}." if formula else ""
    return (
        f"PyTorch {versions.get('torch', UNKNOWN)}, CUDA {versions.get('cuda', UNKNOWN)}, "
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['date'][:10]}.{arithmetic}{lost}"
    )


def _part(result: Json, name: str) -> Json:
    return result["parts"].get(name, {})


def _at(result: Json, *path: str) -> Any:
    """What lies at a path in the parts; None where something of it is missing."""
    found: Any = result["parts"]
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(value: Any, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _each(figures: Json, key: str, form: str) -> str:
    return " / ".join(_number(figures.get(name, {}).get(key), form) for name in ("fp32", "bf16", "fp16"))


def _how_far(run: Json) -> str:
    if not run.get("steps"):
        return UNKNOWN
    return f"{run['steps']:,}, {run['tokens'] / 1e6:,.1f} M, {run['seconds'] / 60:.1f}"


def _on_the_way(points: Sequence[Json]) -> str:
    places = [round(share * (len(points) - 1)) for share in (0.25, 0.5, 0.75, 1)] if points else []
    return ", ".join(f"{points[place]['valid_loss']:.3f}" for place in places) or UNKNOWN


def _yes(value: Any) -> str:
    return UNKNOWN if value is None else "yes" if value else "NO"
