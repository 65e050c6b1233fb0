"""The report and the table: every figure is there, the page needs nothing else, hostile text stays text."""

import copy
import math
import re
from html.parser import HTMLParser

import pytest
from wcwidth import wcswidth

from evaluation.figures import aligned, count, decimal, duration, gate_figures, megabytes
from evaluation.gate import gate
from evaluation.outcome import held_back, outcome, reasons
from evaluation.report.page import render_report
from evaluation.report.plots import Series, lines, ticks, training_plots
from evaluation.results import Evaluation, GateResult, Summary
from evaluation.table import result_table
from model.config import GateConfig

VOID = {"meta", "br", "hr", "img", "link", "input", "wbr"}


class Page(HTMLParser):
    """Holds a page to its own rules: every tag closed in order, no duplicate attribute; collects tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing, near line {self.getpos()}"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def variant(name: str, share: float, size: int) -> dict:
    scores = [
        {"test_set": s, "direction": d, "segments": 1883, "bleu": 31.3 * share, "chrf": chrf * share,
         "copying_chrf": 1.5,
         "bleu_signature": "tok:13a|version:2.6.0", "chrf_signature": "nc:6|version:2.6.0"}
        for s, d, chrf in (("heldout", "ru-en", 55.1), ("test_docs", "ru-en", 57.9), ("test_docs", "en-ru", 52.7))
    ]  # fmt: skip
    dirty = {"test_set": "heldout, dirty", "direction": "ru-en", "segments": 200, "bleu": 31.1 * share,
             "chrf": 54.9 * share, "plain_chrf": 55.1 * share}  # fmt: skip
    speeds = {"1": 412.0, "32": 2210.0}
    return {"variant": name, "task": "translation", "bytes": size, "scores": scores, "loss": 2.071 / share,
            "variations": [dirty], "losses": {"ru-en": 2.071 / share}, "unigram_entropies": {"ru-en": 5.4},
            "perplexity": 7.9, "bits_per_character": 0.93,
            "tokens_per_second": speeds, "peak_memory_mb": 411.0}  # fmt: skip


FLOORS = {"test_docs/ru-en": 57.0, "flores/ru-en": 40.0}


@pytest.fixture
def summary() -> dict:
    variants = [variant("fp32", 1.0, 35_700_000), variant("fp16", 0.999, 18_000_000), variant("int8", 0.988, 9_300_000)]
    samples = [
        {"test_set": "test_docs", "direction": "ru-en", "source": "Привет, мир", "reference": "Hello, world",
         "output": "Hello, peace", "chrf": 51.5},
        {"test_set": "test_docs", "direction": "ru-en", "source": "Да", "reference": "Yes", "output": "", "chrf": 0.0},
    ]  # fmt: skip
    measured = {v["variant"]: Evaluation.model_validate(v) for v in variants}
    variants[-1]["samples"] = samples
    curves = [{"step": s, "loss": 8.0 / s + 2, "lr": 0.02, "tokens": s, "seconds": s} for s in range(1, 200)]
    curves += [{"step": s, "valid_loss": 2.5} for s in (100, 200)]
    return {
        "run_id": "20251120-small", "profile": "small", "code_version": "4f1c2ab", "started": "2025-11-20T05:43:12",
        "seconds": 2712.4, "status": "published", "error": None, "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "Xeon"}, "settings": {"name": "x<y"},
        "steps": [{"name": "prepare_data", "status": "ok", "seconds": 41.2},
                  {"name": "train_model", "status": "ok", "seconds": 1802.0}],
        "corpus": {"kind": "parallel", "languages": ["ru", "en"], "sources": ["https://host/a.tsv"],
                   "counts": {"read": 1077100, "train": 1011021, "test": {"test_docs": 1883},
                              "rejected": {"too long": 1290},
                              "duplicates": 12437}},
        "tokenizer": {"kind": "unigram", "vocab_size": 8000,
                      "languages": {"ru": {"tokens_per_word": 1.98}, "en": {"tokens_per_word": 1.44}}},
        "training": {"parameters": 8870144, "valid_loss": 2.067, "network": {"d_model": 256}},
        "curves": curves, "variants": variants,
        "gates": [result.model_dump() for result in gate(measured, GateConfig(min_chrf=FLOORS))],
        "published": {"variant": "int8", "path": "runs/20251120-small/bundle"},
    }  # fmt: skip


def test_every_figure_is_on_the_page(summary):
    page = Page(render_report(summary))
    for figure in ("31.3", "57.9", "57.2", "35.7 MB", "9.3 MB", "26%", "2,210", "411", "2.071", "45 min 12 s", "8.87 M",
                   "1,077,100", "1,290", "12,437", "8,000", "1.98", "1.44", "2.067", "30 min 02 s", "Xeon", "4f1c2ab",
                   "tok:13a|version:2.6.0", "nc:6|version:2.6.0", "≥ 57", "> 1.5", "< 5.4", "26.05 %", "skipped",
                   "Привет, мир", "heldout, dirty", "54.9 (−0.2)",
                   "runs/20251120-small/bundle", "Published: int8", "2.13.0", "256"):  # fmt: skip
        assert figure in page.text, figure
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 3


def test_the_processor_stands_beside_the_figures(summary):
    machine = {"cpu": "EPYC 9", "instructions": ["AVX2", "AVX-VNNI"], "cores": 2, "int8_products": "exact"}
    for variant in summary["variants"]:
        variant["hardware"] = machine
    assert render_report(summary).count("EPYC 9 AVX2 AVX-VNNI, 2 cores, int8 products exact") == 1


def test_the_page_needs_nothing_else(summary):
    html = render_report(summary)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not {"src", "href", "xlink:href", "srcset", "data"} & {name for _, attrs in page.tags for name in attrs}
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "http" not in style
    assert "prefers-color-scheme: dark" in style and "max-width: 640px" in style
    assert html.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in html and "width=device-width" in html


HOSTILE = "</style><script>alert('1')</script>\"><img src=x onerror=y>&amp;\x00\x1b[31m\ud800"


def test_hostile_text_stays_text(summary):
    def poison(value):
        if isinstance(value, dict):
            kept = {"variant", "name", "passed", "status"}
            return {k: (v if k in kept else poison(v)) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    poisoned = poison(summary)
    poisoned["steps"].append({"name": HOSTILE, "status": HOSTILE, "seconds": 1, "error": HOSTILE})
    poisoned["variants"][0]["scores"][0]["test_set"] = HOSTILE
    poisoned["variants"][0]["variant"] = HOSTILE
    poisoned["gates"][0]["name"] = poisoned["gates"][0]["variant"] = HOSTILE
    poisoned["corpus"]["counts"]["rejected"] = {HOSTILE: 3}
    poisoned["tokenizer"]["languages"] = {HOSTILE: {HOSTILE: HOSTILE}}
    poisoned["error"] = HOSTILE
    html = render_report(poisoned)
    page = Page(html)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "alert('1')" in page.text and "\x00" not in html and "\x1b" not in html
    html.encode("utf-8")
    assert "\x1b" not in result_table(poisoned)
    result_table(poisoned).encode("utf-8")


@pytest.mark.parametrize("name", ["self", "caller", "_loop_vars", "items", "duplicates"])
def test_a_name_that_the_templates_use_themselves_is_a_name(summary, name):
    summary["corpus"]["counts"]["test"][name] = summary["corpus"]["counts"]["rejected"][name] = 33_033
    summary["tokenizer"]["languages"]["ru"] = {name: 0.125}
    summary["training"][name] = 44_044
    text = Page(render_report(summary)).text
    assert text.count("33,033") == 2 and "0.125" in text and "44,044" in text


def test_partial_runs_render(summary):
    Page(render_report({}))
    assert isinstance(result_table({}), str)
    for key in summary:
        for value in (None, "absent"):
            partial = copy.deepcopy(summary)
            partial[key] = value
            if value == "absent":
                del partial[key]
            Page(render_report(partial))
            result_table(partial)
    for row in summary["variants"]:
        row.update(loss=None, tokens_per_second=None, peak_memory_mb=math.nan, scores=[])
    summary["curves"] = [{"step": 1, "loss": math.nan, "lr": None}]
    Page(render_report(summary))
    assert "–" in result_table(summary)


def test_a_failed_run_says_why_on_page_and_last_lines(summary):
    summary["status"], summary["published"] = "failed", None
    summary["error"] = "Traceback ...\nmodel.training.TrainingError: the loss became nan at step 40"
    summary["steps"].append(
        {
            "name": "export",
            "status": "killed",
            "seconds": 3.1,
            "error": "Traceback\nTrainingError: the loss became nan at step 40",
        }
    )
    summary["gates"][1].update(passed=False, value=0.071)
    expected = [
        "step export killed after 3.1 s: TrainingError: the loss became nan at step 40",
        "gate max_chrf_loss of int8: 7.10 %, must be ≤ 5 %",
    ]
    page, table = Page(render_report(summary)), result_table(summary).splitlines()
    assert "This run failed." in page.text
    failed = table.index("FAILED:")
    assert len(table) - failed - 1 == 2, "an error told by its step is not told twice"
    for line, text in zip(table[failed + 1 :], expected, strict=True):
        assert line.strip().startswith(text) and text in page.text


def test_what_the_run_says_of_itself_is_not_told_twice(summary):
    summary.update(status="failed", published=None, error="gate max_chrf_loss failed for int8: 0.071")
    summary["gates"][1].update(passed=False, value=0.071)
    assert len(reasons(summary)) == 1
    summary["gates"][1].update(passed=True)
    assert reasons(summary) == ["gate max_chrf_loss failed for int8: 0.071"]


def test_the_gate_steps_own_report(summary):
    early = {"chosen": "int8", **{key: summary[key] for key in ("variants", "gates")}}
    assert "To be published: int8." in Page(render_report(early)).text
    summary["gates"][1].update(passed=False)
    page = Page(render_report(early | {"chosen": "fp32"})).text
    assert "To be published: fp32." in page and "Held back: int8." in page
    assert "Refused: no variant passed its gates" in Page(render_report(early | {"chosen": "none"})).text


def test_the_three_outcomes_are_told_apart(summary):
    def told(run):
        return outcome(run), Page(render_report(run)).text, result_table(run).splitlines()

    assert (outcome(summary), held_back(summary)) == ("published", {})
    summary["gates"][1].update(passed=False, value=0.071)
    why = "gate max_chrf_loss of int8: 7.10 %, must be ≤ 5 %"
    held = summary | {"published": {"variant": "fp32", "path": "runs/a/bundle"}, "chosen": "fp32"}
    word, page, table = told(held)
    assert word == "held back" and reasons(held) == []
    assert "Published: fp32." in page and "Held back: int8." in page and why in page and "failed" not in page
    assert table[-1] == "OK, with int8 held back" and table[-3] == "WARNING: int8 is held back:" and why in table[-2]

    refused = summary | {"published": None, "chosen": "none"}
    refused["steps"] = [
        *summary["steps"],
        {"name": "refuse", "status": "failed", "seconds": 0.1, "error": "told above"},
    ]
    word, page, table = told(refused)
    assert word == "refused" and held_back(refused) == {}
    assert "Refused: no variant passed its gates, and nothing is published." in page and why in page
    assert table[-2] == "REFUSED, nothing is published:" and why in table[-1]

    failed = held | {"steps": [{"name": "publish", "status": "failed", "seconds": 1.0, "error": "no such bucket"}]}
    word, page, table = told(failed | {"published": None})
    assert word == "failed" and "This run failed." in page and "Held back: int8." in page
    assert table[-2:] == ["FAILED:", "  step publish failed after 1.0 s: no such bucket"]


def test_a_failure_without_a_reason_is_still_a_failure():
    assert reasons({"status": "failed"}) == ["the run failed and left no reason: see its log"]
    assert result_table({"status": "failed"}).endswith("see its log")
    assert (
        reasons(
            {
                "status": "ok",
                "steps": [{"name": "a", "status": "ok"}],
                "gates": [{"name": "a", "variant": "b", "passed": None}],
            }
        )
        == []
    )


def test_table_is_aligned_and_whole(summary):
    table = result_table(summary)
    assert table.splitlines()[-1] == "OK" and "published int8: runs/20251120-small/bundle" in table
    assert "SKIPPED flores/ru-en" in table
    score = next(line for line in table.splitlines() if line.startswith("test_docs  ") and "ru-en" in line)
    assert score.split() == ["test_docs", "ru-en", "1,883", "31.3", "57.9", "31.3", "57.8", "30.9", "57.2"]
    assert re.search(r"^Size +35\.7 MB +18\.0 MB +9\.3 MB$", table, re.M)


def test_any_script_stays_aligned():
    rows = [["test set", "1"], ["набор", "1,000"], ["日本語の文", "22"], ["cafe\u0301", "3"]]
    lines = aligned(rows[0], rows[1:]).splitlines()
    assert {wcswidth(line) for line in lines} == {len("日本語の文") * 2 + 2 + len("1,000")}
    assert [line.split() for line in lines] == [["test", "set", "1"], *rows[1:]]


def test_a_text_model_is_shown_by_its_loss(summary):
    for row in summary["variants"]:
        row.update(scores=[], variations=[], task="text")
    sample = {"test_set": "heldout", "direction": "text", "source": "Once", "reference": " upon", "output": " a <time>"}
    summary["variants"][-1]["samples"] = [sample]
    page = Page(render_report(summary))
    assert "a <time>" in page.text and "held-out nats/token" in page.text and "Continuations" in page.text
    assert "fp32 BLEU" not in result_table(summary)


def test_figures():
    assert [duration(s) for s in (3.21, 59.97, 61, 3600, None, math.nan)] == [
        "3.2 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 00 min",
        "–",
        "–",
    ]
    assert (count(1234.6), decimal(True), megabytes(9_312_345)) == ("1,235", "–", "9.3 MB")
    result = GateResult(name="max_bytes_ratio", variant="int8", value=0.2608, threshold=0.5, passed=True)
    assert gate_figures(result) == ("bytes against fp32", "26.08 %", "≤ 50 %")
    new = GateResult(name="new gate", variant="int8", threshold=1, passed=False)
    assert gate_figures(new) == ("new gate", "–", "against 1")


def test_plots_hold_their_points_inside():
    plot = lines("t", [Series("a", "s1", [(0, 100.0), (1, 2.0), (2, 1.0)])], "y", cap=3.0)
    (series,) = plot.series
    assert len(series.points) == 2, "the point above the cap is left out"
    for x, y in series.points:
        assert plot.left <= plot.x(x) <= plot.right and plot.top < plot.y(y) < plot.bottom
    assert lines("t", [Series("a", "s1", [])], "y") is None
    single = lines("t", [Series("a", "s1", [(5, 5)])], "y")
    assert 0 < single.x(5) < 460 and 0 < single.y(5) < 280


def test_plots_on_the_page_hold_what_is_a_number(summary):
    summary["curves"] = [{"step": step, "loss": 2.0, "lr": 0.1} for step in range(3)]
    summary["curves"] += [
        {"step": 1, "valid_loss": 2.1},
        {"step": 2, "valid_loss": math.nan},
        {"step": 3, "loss": None},
    ]
    loss, rate = training_plots(Summary.model_validate(summary))
    assert [len(series.points) for series in (*loss.series, *rate.series)] == [3, 3, 1, 3]
    circles = re.findall(r'<circle class="s3" cx="([\d.]+)" cy="([\d.]+)" r="3">', render_report(summary))
    assert len(circles) == 1 and 0 < float(circles[0][0]) < 460 and 0 < float(circles[0][1]) < 280


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.0, 8.3), (0, 1827), (41.1, 41.9), (1e-4, 0.02), (-3, 3)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 9 and low <= found[0] and found[-1] <= high
    assert ticks(2, 2) == [2]
