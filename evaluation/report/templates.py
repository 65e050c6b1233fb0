"""How the report's templates are read: every text is escaped on its way out, and an unknown name is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation import figures
from evaluation.results import finite

# Keys whose value is a section of its own, or says nothing to a reader of the report.
_ELSEWHERE = {"format_version", "network", "versions", "shards", "config", "counts", "row_counts", "seconds", "sha256"}


def facts(data: Mapping[str, Any]) -> dict[str, str]:
    """A card's figures in words. Keys that nobody has heard of yet are shown as they are."""
    return {spaced(k): written(v) for k, v in data.items() if k not in _ELSEWHERE and v not in (None, "", [], {})}


def written(value: Any) -> str:
    """Plain data as people write it: mappings as "key value" pairs, lists separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(key)} {written(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return str(value)


def spaced(key: object) -> str:
    """``train_loss`` -> train loss."""
    return str(key).replace("_", " ")


def arrow(direction: str) -> str:
    """``ru-en`` -> ru → en; running text has none."""
    return "" if direction == "text" else direction.replace("-", " → ")


def numbers(*mappings: Mapping[str, Any]) -> dict[str, float]:
    """The entries that can be drawn as bars; of equal keys the last one holds."""
    merged = {key: value for mapping in mappings for key, value in mapping.items()}
    return {key: value for key, value in merged.items() if finite(value) is not None}


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for function in (
    *(facts, written, spaced, arrow, numbers),
    *(figures.count, figures.decimal, figures.duration, figures.megabytes, figures.last_line),
):
    ENVIRONMENT.filters[function.__name__] = function
