"""The table of `make bench-serving`, and the targets that it is held against; made from the result alone."""

from typing import Any

from benchmarks.machine import markdown
from evaluation.figures import processor

VARIANTS = {"static": "ours-int8-static", "row": "ours-int8-row", "fp32": "ours-fp32"}  # the default first
CT2 = ("ct2-int8", "ct2-hf-int8")
# (what, its engines, their way of running, family, workload, must, aim)
TARGETS: list[tuple[str, tuple[str, ...], str, str, str, float, float]] = [
    ("CTranslate2 int8", CT2, "", "seq2seq", "batch-1", 1.3, 2.0),
    ("CTranslate2 int8", CT2, "", "seq2seq", "batch-8", 1.4, 2.0),
    ("CTranslate2 int8", CT2, "", "seq2seq", "batch-32", 1.5, 2.0),
    ("CTranslate2 int8", CT2, "", "decoder", "batch-1", 1.5, 2.0),
    ("CTranslate2 int8", CT2, "", "decoder", "batch-8", 1.6, 3.0),
    ("CTranslate2 int8", CT2, "", "decoder", "batch-32", 1.6, 3.0),
    ("CTranslate2 int8, padded batches of 32", CT2, "padded", "decoder", "mixed", 3.0, 5.0),
    ("CTranslate2 int8, ideal batches of 32", CT2, "ideal", "decoder", "mixed", 1.8, 2.5),
    ("CTranslate2 int8, padded batches of 32", CT2, "padded", "seq2seq", "mixed", 3.0, 5.0),
    ("CTranslate2 int8, ideal batches of 32", CT2, "ideal", "seq2seq", "mixed", 1.8, 2.5),
    ("Hugging Face generate", ("hf",), "", "decoder", "batch-1", 15.0, 20.0),
    ("Hugging Face generate", ("hf",), "", "decoder", "batch-32", 4.0, 8.0),
    ("Hugging Face generate", ("hf",), "", "seq2seq", "batch-1", 15.0, 20.0),
    ("Hugging Face generate", ("hf",), "", "seq2seq", "batch-32", 4.0, 8.0),
]
WORKLOADS = {"mixed": "100 mixed requests"}


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with its ratios: the other engines' cost per token over ours, by CPU time and by wall clock.

    ``cpu`` and ``wall`` are our variant -> other engine -> ratio, rounded; ``met`` tells whether the least of a
    variant's CPU ratios reaches ``must`` before any rounding.
    """
    found = []
    for what, engines, mode, family, workload, must, aim in TARGETS:
        runs = [run for run in result["runs"] if (run["family"], run["workload"]) == (family, workload)]
        others = [run for name in engines for run in runs if run["engine"] == name and run["mode"] == mode]
        if not others:
            continue
        ours = {name: run for name, engine in VARIANTS.items() for run in runs if run["engine"] == engine}
        found.append(
            {
                "against": what,
                "family": family,
                "workload": workload,
                "must": must,
                "aim": aim,
                "cpu": {
                    name: {o["engine"]: round(o["cpu_us_per_token"] / run["cpu_us_per_token"], 2) for o in others}
                    for name, run in ours.items()
                },
                "met": {
                    name: min(o["cpu_us_per_token"] for o in others) / run["cpu_us_per_token"] >= must
                    for name, run in ours.items()
                },
                "wall": {
                    name: {o["engine"]: round(run["tokens_per_second"] / o["tokens_per_second"], 2) for o in others}
                    for name, run in ours.items()
                },
            }
        )
    return found


def serving_table(result: dict[str, Any]) -> str:
    """Markdown: ratios against the targets, then every figure, then what has to be known to read them."""
    return "\n\n".join([ratio_table(result), *_figure_tables(result), caption(result)])


def ratio_table(result: dict[str, Any]) -> str:
    """How many times less CPU time a token costs than with the other engine; by wall clock in brackets."""
    head = ["against", "workload", "must", "aim", "int8, the default", "int8, scale per row", "fp32"]
    rows = []
    for target in targets(result):
        cells = [target["against"], f"{target['family']}, {_workload(target['workload'])}"]
        cells += [f"{target['must']:g}", f"{target['aim']:g}"]
        for variant in VARIANTS:
            cpu, wall = (target[clock].get(variant, {}) for clock in ("cpu", "wall"))
            shown = " / ".join(f"{ratio:.2f}" for ratio in cpu.values())
            if shown and variant != "fp32":
                shown = f"**{shown}**" if target["met"][variant] else f"{shown} (missed)"
            cells.append(f"{shown} [{' / '.join(f'{ratio:.2f}' for ratio in wall.values())}]" if shown else "")
        rows.append(cells)
    return markdown(head, rows)


def _figure_tables(result: dict[str, Any]) -> list[str]:
    tables = []
    for family in dict.fromkeys(run["family"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["family"] == family]
        columns = list(dict.fromkeys(run["workload"] for run in runs))
        head = [family, *[f"{_workload(name)}: us/token (tokens/s)" for name in columns], "MB in memory", "MB on disk"]
        rows = []
        for engine in (entry for entry in result["engines"] if entry["family"] == family):
            cells = [engine["engine"]]
            for name in columns:
                own = [run for run in runs if run["workload"] == name and run["engine"] == engine["engine"]]
                cells.append("; ".join(_cell(run) for run in own))
            sizes = engine["rss_mb"]
            peak = max(sizes.values())
            cells += [f"{sizes['loaded']:.0f} to {peak:.0f}", f"{engine['bytes'] / 1e6:.1f}"]
            rows.append(cells)
        tables.append(markdown(head, rows))
    return tables


def caption(result: dict[str, Any]) -> str:
    """Lengths, machine, versions, and what differs between the engines."""
    lengths, machine, versions = result["lengths"], result["machine"], result["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "numpy")
    notes = "\n".join(f"- `{name}`: {text}." for name, text in result["notes"].items())
    return (
        f"CPU microseconds per generated token on {result['threads']} thread, least of {result['rounds']} interleaved "
        f"rounds (tokens per second of wall clock, median); prompt run or encoder included. Two ratios: to CTranslate2 "
        f"with our own layers, and to what its converter makes of a Marian or Llama; the lesser has to reach the "
        f"target. seq2seq: source {lengths['prompt']['seq2seq']}, output "
        f"{lengths['output']['seq2seq']} tokens; decoder: prompt {lengths['prompt']['decoder']}, output "
        f"{lengths['output']['decoder']}; {lengths['requests']} mixed requests: prompts "
        f"{lengths['mixed_prompt'][0]}-{lengths['mixed_prompt'][1]}, outputs "
        f"{lengths['mixed_output'][0]}-{lengths['mixed_output'][1]}, useful tokens counted. Random weights, vocabulary "
        f"8,192, greedy. {processor(machine)}, load {machine['load_average']} before the run, "
        f"{result['date'][:10]}. {named}.\n\n{notes}"
    )


def _workload(name: str) -> str:
    return WORKLOADS.get(name, name.replace("batch-", "batch "))


def _cell(run: dict[str, Any]) -> str:
    mode = f"{run['mode']}: " if run["mode"] not in ("", "continuous") else ""
    return f"{mode}{run['cpu_us_per_token']:,.1f} ({run['tokens_per_second']:,.0f})"
