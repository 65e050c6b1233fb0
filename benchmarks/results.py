"""Committed results, and the tables of README.md and docs/ made from them: nobody types a figure by hand.

python -m benchmarks.results record runs/latest     # keep a run's figures as results/<profile>.json
python -m benchmarks.results docs                   # rewrite the tables between the markers
python -m benchmarks.results docs --check           # fail when one is out of date
"""

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import markdown
from evaluation.figures import change, decimal, processor, texts_per_second
from evaluation.outcome import WELL
from evaluation.results import Evaluation, Sample, Summary
from model.errors import ProjectError
from model.files import write_json
from model.options import FAILED, OK, Parser, run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
# (family, workload) of the six lines that README shows.
SPEEDS = {
    ("seq2seq", "batch-1"): "translation, one text at a time",
    ("seq2seq", "batch-32"): "translation, 32 at a time",
    ("seq2seq", "mixed"): "translation, 100 requests of mixed length",
    ("decoder", "batch-1"): "continuation, one text at a time",
    ("decoder", "batch-32"): "continuation, 32 at a time",
    ("decoder", "mixed"): "continuation, 100 requests of mixed length",
}
SPEED_ENGINES = {
    "ours, int8": ("ours-int8-static",),
    "CTranslate2, int8": ("ct2-int8", "ct2-hf-int8"),
    "Hugging Face, fp32": ("hf",),
}
SAMPLES_PER_SET = 2  # of the good and of the bad translations each


_MARKED = re.compile(r"(<!-- table:(\w+) (\w+) -->\n).*?(<!-- end -->)", re.S)


class ResultsError(ProjectError):
    """A run or a document that cannot be taken; the message says why."""


def record(folder: Path) -> Path:
    """Keep what the documents quote from a run's summary; curves and most samples stay in the run."""
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    if summary["status"] not in WELL:
        raise ResultsError(f"{folder} did not succeed ({summary.get('error')}): only a good run is recorded")
    kept = {key: summary[key] for key in ("profile", "run_id", "code_version", "seconds", "versions", "hardware")}
    kept["steps"] = summary["steps"]
    kept["corpus"] = {key: summary["corpus"][key] for key in ("languages", "counts", "characters")}
    kept["tokenizer"] = {k: v for k, v in summary["tokenizer"].items() if not isinstance(v, list)}
    kept["training"] = summary["training"]
    variants = [Evaluation.model_validate(variant) for variant in summary["variants"]]
    kept["variants"] = [variant.figures() for variant in variants]
    kept["gates"] = summary["gates"]
    kept["published"] = summary["published"]["variant"]
    published = next(variant for variant in variants if variant.variant == kept["published"])
    kept["samples"] = [sample.model_dump() for sample in published.samples]
    target = RESULTS / f"{summary['profile']}.json"
    write_json(target, kept)
    return target


def load(profile: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((RESULTS / f"{profile}.json").read_text("utf-8"))


def quality_table(profile: str) -> str:
    """One line per test set and direction, as it is and greedy, BLEU / chrF of every variant; sizes first."""
    summary = variants_of(profile)
    sizes = ["megabytes", *(f"{(variant.bytes or 0) / 1e6:.1f}" for variant in summary.variants)]
    return f"{_scores(profile, summary, [sizes], varied=False)}\n\n{caption(load(profile))}"


def varied_table(profile: str) -> str:
    """Test sets as people send text, dirty and in pairs of rows, with the difference to the same rows as they are."""
    return _scores(profile, variants_of(profile), [], varied=True)


def variants_of(profile: str) -> Summary:
    """The variants of a committed result."""
    return Summary(variants=[Evaluation.model_validate(variant) for variant in load(profile)["variants"]])


def _scores(profile: str, summary: Summary, rows: list[list[str]], varied: bool) -> str:
    published = load(profile)["published"]
    names = [
        f"**{variant.variant}**, published" if variant.variant == published else variant.variant
        for variant in summary.variants
    ]
    for scores in summary.places():
        if any(score.beams > 1 for score in scores) or (scores[0].plain_chrf is not None) != varied:
            continue  # what beams gain has a table of its own
        test = f"{scores[0].test_set} {scores[0].direction}, {scores[0].segments:,} rows"
        rows.append([test, *(f"{score.bleu:.1f} / {score.chrf:.1f}{change(score)}" for score in scores)])
    return markdown(["", *names], rows)


def beams_table(profile: str) -> str:
    """What a beam search gains in each test set and direction, and what it takes."""
    variants = variants_of(profile).variants
    rows = [
        [
            f"{variant.variant}, {score.test_set} {score.direction}",
            decimal(score.plain_chrf),
            decimal(score.chrf) + change(score),
        ]
        for variant in variants
        for score in (variant.search.scores if variant.search else ())
    ]
    for variant in variants:
        if variant.search:
            speeds = [texts_per_second(scores) for scores in (variant.scores, variant.search.scores)]
            rows.append([f"{variant.variant}, texts per second", *(decimal(speed) for speed in speeds)])
    return markdown(["chrF", "greedy", "with beams"], rows)


def caption(result: dict[str, Any]) -> str:
    """Everything a score needs beside it: sizes, time, hardware, versions, signatures."""
    training, counts = result["training"], result["corpus"]["counts"]
    score = Evaluation.model_validate(result["variants"][0]).scores[0]
    return (
        f"BLEU / chrF, greedy. {training['parameters']:,} parameters, vocabulary {training['vocab_size']:,}, "
        f"{counts['train']:,} training pairs, {training['train_tokens'] / 1e6:.1f} M tokens in "
        f"{training['seconds'] / 60:.0f} minutes, whole pipeline {result['seconds'] / 60:.0f} minutes. "
        f"{processor(result['hardware'])}, "
        f"code {result['code_version']}. `{score.bleu_signature}`, `{score.chrf_signature}`."
    )


def samples_table(profile: str) -> str:
    """What the published bundle translates well and badly, of every real test set and direction."""
    groups: dict[str, list[Sample]] = {}
    for sample in map(Sample.model_validate, load(profile)["samples"]):
        groups.setdefault(f"{sample.test_set} {sample.direction}", []).append(sample)
    rows = []
    for name, samples in groups.items():
        ordered = sorted(samples, key=lambda sample: -(sample.chrf or 0))
        for sample in [*ordered[:SAMPLES_PER_SET], *ordered[-SAMPLES_PER_SET:]]:
            texts = [name, sample.source, sample.reference, sample.output]
            cells = [text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for text in texts]
            rows.append([*cells, f"{sample.chrf:.0f}"])
    return markdown(["", "source", "reference", "ours", "chrF"], rows)


def steps_table(profile: str) -> str:
    """Where the time of a run goes."""
    return markdown(["step", "seconds"], [[step["name"], f"{step['seconds']:.0f}"] for step in load(profile)["steps"]])


def speed_table(name: str) -> str:
    """Tokens per second of our engine, CTranslate2 and Hugging Face, six lines; of several runs the fastest."""
    result, rows = load(name), []
    for workload, text in SPEEDS.items():
        runs = [run for run in result["runs"] if (run["family"], run["workload"]) == workload]
        best = [
            max((run["tokens_per_second"] for run in runs if run["engine"] in engines), default=None)
            for engines in SPEED_ENGINES.values()
        ]
        rows.append([text, *("–" if figure is None else f"{figure:,.0f}" for figure in best)])
    versions = result["versions"]
    caption = (
        f"Same shapes, lengths and parameter counts. CTranslate2 {versions['ctranslate2']}: the faster of two models; "
        f"for mixed lengths, in batches that know every output's length beforehand. transformers "
        f"{versions['transformers']}. {processor(result['machine'])}, {result['date'][:10]}."
    )
    return f"{markdown(['tokens per second, one thread', *SPEED_ENGINES], rows)}\n\n{caption}"


def measured_table(name: str) -> str:
    """What a serving benchmark of that name measured; each makes its own table."""
    from benchmarks.adapt import adapt_table
    from benchmarks.agreement import agreement_table
    from benchmarks.architecture import architecture_table
    from benchmarks.blocks import blocks_table
    from benchmarks.characters import characters_table
    from benchmarks.cluster import cluster_table
    from benchmarks.corpus import corpus_table
    from benchmarks.dirty import dirty_table
    from benchmarks.distillation import distillation_table
    from benchmarks.doors import doors_table
    from benchmarks.joined import joined_table
    from benchmarks.kept import kept_table
    from benchmarks.load.http import http_table
    from benchmarks.load.rollout import table as rollout_table
    from benchmarks.load.slow_readers import table as slow_readers_table
    from benchmarks.load.soak import soak_table
    from benchmarks.muon import muon_table
    from benchmarks.plain import plain_table
    from benchmarks.resume import resume_table
    from benchmarks.serving.table import caption as notes
    from benchmarks.serving.table import ratio_table
    from benchmarks.shards import shards_table
    from benchmarks.sweep import sweep_table
    from benchmarks.threads import threads_table
    from benchmarks.training import training_table

    makers: dict[str, Callable[[dict[str, Any]], str]] = {
        "serving": lambda result: f"{ratio_table(result)}\n\n{notes(result)}",
        "http": http_table,
        "soak": soak_table,
        "slow_readers": slow_readers_table,
        "rollout": rollout_table,
        "agreement": agreement_table,
        "blocks": blocks_table,
        "threads": threads_table,
        "cluster": cluster_table,
        "kept": kept_table,
        "joined": joined_table,
        "doors": doors_table,
        "resume": resume_table,
        "corpus": corpus_table,
        "shards": shards_table,
        "adapt": adapt_table,
        "architecture": architecture_table,
        "dirty": dirty_table,
        "distillation": distillation_table,
        "muon": muon_table,
        "plain": plain_table,
        "sweep": sweep_table,
        "training": training_table,
        "characters": characters_table,
    }
    result = load(name)  # a measurement may have been kept of several processors, under a name for each
    return makers[result["kind"]](result).strip()


def pods_table(name: str) -> str:
    """How many pods a rate takes, by what was measured over HTTP."""
    from benchmarks.capacity import capacity_table

    return capacity_table(load(name))


def gpus_table(pattern: str) -> str:
    """What was measured on each GPU, by the results of the GPU check that there are: ``all``, or of one name."""
    from benchmarks.gpu.table import gpu_table

    found = sorted(RESULTS.glob(f"gpu-{'*' if pattern == 'all' else pattern}.json"))
    return gpu_table([json.loads(path.read_text("utf-8")) for path in found])


TABLES = {
    "beams": beams_table,
    "capacity": pods_table,
    "quality": quality_table,
    "samples": samples_table,
    "steps": steps_table,
    "speed": speed_table,
    "varied": varied_table,
    "measured": measured_table,
    "gpu": gpus_table,
}


def documents() -> list[Path]:
    """Every document that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rendered(document: Path) -> str:
    """The document's text with everything between ``<!-- table:KIND NAME -->`` and ``<!-- end -->`` made anew.

    Raises:
        ResultsError: for a table without an end.
    """
    text = document.read_text("utf-8")
    made, count = _MARKED.subn(lambda found: f"{found[1]}{TABLES[found[2]](found[3])}\n{found[4]}", text)
    if count < text.count("<!-- table:"):
        raise ResultsError(f"{document.relative_to(ROOT)}: a table has no `<!-- end -->`, or no KIND and NAME")
    return made


def parser() -> Parser:
    """The command line."""
    made = Parser("benchmarks.results", __doc__.splitlines()[0])
    commands = made.add_subparsers(dest="command", required=True, help="what to do", parser_class=ArgumentParser)
    recording = commands.add_parser("record", help="keep a run's figures in results/")
    recording.add_argument("run", type=Path, help="folder of a run, for example runs/latest")
    tables = commands.add_parser("docs", help="rewrite the tables of README.md and docs/ from results/")
    tables.add_argument("--check", action="store_true", help="change nothing; fail when a table is out of date")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Record a run, or write or check the documents' tables."""
    options = parser().parse_args(argv)
    if options.command == "record":
        print(record(options.run).relative_to(ROOT))
        return OK
    old = {path: text for path in documents() if (text := rendered(path)) != path.read_text("utf-8")}
    for path, text in old.items():
        if options.check:
            print(f"{path.relative_to(ROOT)}: out of date; run `python -m benchmarks.results docs`", file=sys.stderr)
        else:
            path.write_text(text, "utf-8")
    return FAILED if old and options.check else OK


if __name__ == "__main__":
    sys.exit(run(main))
