"""What becomes of a split's rows in a step: one form, so that terminal, summary.json and report tell the same figures.

``rows`` of a split are those ``used`` and those ``left_out``, by reason; a reason names the setting that changes it.
``cut`` counts those of the used ones that were shortened to fit.

    row_count("training", "train", 530, 259, {too_long(256): 271})
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RowCount = dict[str, Any]
TOO_LONG = "too long"
LOUD = 0.25  # a warning where more than this share of the rows that a step was asked for is too long


def row_count(
    step: str, split: str, rows: int, used: int, left_out: Mapping[str, int], direction: str = "", cut: int = 0
) -> RowCount:
    """One entry of a step's ``row_counts``; reasons that met no row are dropped."""
    place = {"step": step, "split": split} | ({"direction": direction} if direction else {})
    reasons = {reason: count for reason, count in left_out.items() if count}
    return {**place, "rows": rows, "used": used, "left_out": reasons, "cut": cut}


def too_long(max_positions: int) -> str:
    """The reason of rows that do not fit a network's positions."""
    return f"{TOO_LONG} (network.max_positions {max_positions})"


def sentence(counts: Sequence[RowCount]) -> str:
    """The counts in one line, a step's directions added up split by split; a warning on a line of its own."""
    groups: dict[tuple[str, str], list[RowCount]] = {}
    for entry in counts:
        split = f"{entry['split']} rows" + (" in both directions" if "direction" in entry else "")
        groups.setdefault((entry["step"], split), []).append(entry)
    parts = []
    for (step, split), entries in groups.items():
        rows, used, cut = (sum(entry[key] for entry in entries) for key in ("rows", "used", "cut"))
        left_out = sum((Counter(entry["left_out"]) for entry in entries), Counter[str]())
        notes = [f"{count:,} {reason}" for reason, count in left_out.items()]
        notes += [f"{cut:,} of them cut to fit"] if cut else []
        parts.append(f"{step} {used:,} of {rows:,} {split}" + (f" ({', '.join(notes)})" if notes else ""))
    return "\n".join(filter(None, (f"rows: {'; '.join(parts)}", warning(counts))))


def warning(counts: Iterable[Mapping[str, Any]]) -> str:
    """A loud line where more than a quarter of the rows that a step was asked for were left out as too long; or ""."""
    found = []
    for entry in counts:
        long = sum(n for reason, n in entry["left_out"].items() if reason.startswith(TOO_LONG))
        asked = entry["used"] + long
        if long > LOUD * asked:
            step = " ".join(filter(None, (entry["step"], entry.get("direction"))))
            found.append(f"{step} ({long:,} of {asked:,})")
    if not found:
        return ""
    return (
        f"WARNING: more than a quarter of the rows are too long for {', '.join(dict.fromkeys(found))}: raise "
        "network.max_positions (or tokenizer.vocab_size), or lower corpus.max_chars"
    )
