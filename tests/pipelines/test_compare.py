"""Runs are compared on one page that a phone can show; a difference is called sure only where it is."""

import re

import pytest

from evaluation.paired import Rows, compared, translated
from evaluation.report.compare import differences
from model.corpus import read_split
from model.files import write_json
from pipelines.compare import CompareError, main
from tests.helpers.browser import find_browser, start_browser
from tests.helpers.bundles import tiny_corpus
from tests.pipelines.test_local import ended, record

ROWS = 40
PLACES = ("heldout/ru-en", "heldout/en-ru")


def make_run(runs, name, harm, artifacts=True, **settings):
    """A finished run that got every ``harm``-th row wrong, in the folder of the runs."""
    folder = runs / name
    holdout, evaluation = folder / "artifacts/mini/prepare-data/holdout", folder / "artifacts/mini/variant-3/evaluation"
    evaluation.mkdir(parents=True)
    tiny_corpus(holdout, rows=ROWS)
    rows = list(read_split(holdout, "heldout"))
    scores, samples = [], []
    for place in PLACES:
        source, target = place.partition("/")[2].split("-")
        outputs = ["нет, ничего" if i % harm == 0 else row[target] for i, row in enumerate(rows)]
        (evaluation / f"heldout.{source}-{target}.txt").write_text("".join(f"{line}\n" for line in outputs), "utf-8")
        scores.append({"test_set": "heldout", "direction": f"{source}-{target}", "chrf": 100 - 100 / harm})
        samples.append({**scores[-1], "source": rows[0][source], "reference": rows[0][target], "output": outputs[0]})
    outputs = {"prepare-data": {"holdout": str(holdout)}, "variant-int8": {"evaluation": str(evaluation)}}
    if artifacts:
        record(folder / "steps.jsonl", *(ended(name, **paths) for name, paths in outputs.items()))
    curve = [{"step": s, "loss": 6 / s + 2 + 1 / harm, "tokens": s, "seconds": s} for s in range(1, 200)]
    curve += [{"step": s, "valid_loss": 2.5 + 1 / harm} for s in range(20, 200, 20)]
    training = {"steps": 200, "seed": 0, "adam_lr": 0.003, **settings}
    summary = {
        "run_id": name, "profile": "small", "code_version": f"0.1.0-{name[-4:]}", "started": "2026-11-29T01:40:08",
        "seconds": 3000.0 + harm, "status": "published", "hardware": {"cpu": "AMD EPYC", "cores": 2},
        "versions": {"torch": "2.13.0"}, "settings": {"name": "small", "training": training},
        "corpus": {"counts": {"train": 1_072_781, "heldout": ROWS}}, "tokenizer": {"sha256": "a" * 64}, "curves": curve,
        "training": {"parameters": 8870144},
        "variants": [{"variant": "int8", "task": "translation", "bytes": 11.3e6, "loss": 2.0 + 1 / harm,
                      "scores": scores, "samples": samples}],
        "gates": [], "chosen": "int8", "published": {"variant": "int8", "path": f"runs/{name}/bundle"},
    }  # fmt: skip
    write_json(folder / "summary.json", summary)
    return folder


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path, "20261128T014008Z-small-1a2b", 3)
    make_run(tmp_path, "20261129T014008Z-small-9f3c", 8, adam_lr=0.0015, muon_weight_decay=0.02)
    (tmp_path / "latest").symlink_to("20261129T014008Z-small-9f3c")
    return tmp_path


def page(runs, *names):
    assert main([*names, "--runs", str(runs), "--out", str(runs / "out.html")]) == 0
    return (runs / "out.html").read_text("utf-8")


def words(html):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html.replace("<wbr>", ""), flags=re.S).split())


def test_the_page_says_what_differs_and_no_more(runs):
    said = words(page(runs, "20261128T014008Z-small-1a2b latest"))
    assert "Setting A B training.adam_lr 0.003 0.0015 training.muon_weight_decay – 0.02 What else differs" in said
    assert "code 0.1.0-1a2b 0.1.0-9f3c" in said and "torch" not in said and "The tokenizers differ" not in said
    assert len(re.findall("<polyline", page(runs, "20261128T014008Z-small-1a2b", "latest"))) == 4


def test_a_sure_difference_is_marked_and_luck_is_not(runs):
    html = page(runs, "20261128T014008Z-small-1a2b", "latest")
    assert len(re.findall(r'<span class="badge good">\d', html)) >= 2, "fewer rows are wrong, in both directions"
    assert re.search(r"± \d+\.\d .* p 0\.0\d\d", words(html))
    make_run(runs, "20261130T014008Z-small-0000", 3, seed=1)
    same = words(page(runs, "20261128T014008Z-small-1a2b", "20261130T014008Z-small-0000"))
    assert same.count("p 1.000") == 2 and 'class="badge good"' not in same


def test_samples_are_of_the_same_rows_from_far_ahead_to_far_behind(runs):
    html = page(runs, "20261128T014008Z-small-1a2b", "latest")
    blocks = re.findall(r'<div class="sample">(.*?)</div>\s*<p class=""><span>reference', html, re.S)
    assert len(blocks) == 12
    figures = [[int(n) for n in re.findall(r"chrF (\d+)", block)] for block in blocks[:6]]
    ahead = [last - first for first, last in figures]
    assert ahead == sorted(ahead, reverse=True) and ahead[0] > 50


def test_without_artifacts_scores_have_no_interval_and_shared_samples_are_shown(runs):
    for name, harm in (("x-small-0001", 3), ("y-small-0002", 8)):
        make_run(runs, name, harm, artifacts=False)
    html = page(runs, "x-small-0001", "y-small-0002")
    said = words(html)
    assert "66.7" in said and "87.5" in said and "±" not in said.partition("Scores")[2].partition("ru → en")[2]
    assert html.count('<div class="sample">') == 2


def test_rows_that_are_not_the_same_are_not_held_against_each_other():
    texts = tuple(f"word {i}" for i in range(30))
    rows = Rows(texts, texts, texts)
    other = rows._replace(references=("another text",) * 30)
    first, second, third = compared([rows, other, rows])
    assert (first.p, second.p, third.p) == (None, None, 1.0)
    assert first.chrf == 100 and first.interval == 0 and second.chrf < 50


def test_settings_are_compared_by_name():
    one = {"name": "a", "gate": {"min_chrf": {"x/ru-en": 1}}, "training": {"steps": 1}}
    other = {"name": "a", "gate": {"min_chrf": {}}, "training": {"steps": 1, "seed": 2}}
    assert differences([one, other]) == {"gate.min_chrf": [{"x/ru-en": 1}, {}], "training.seed": [None, 2]}


def test_what_cannot_be_compared_says_why(runs):
    with pytest.raises(CompareError, match="two to 4 runs are compared, not 1"):
        main(["latest", "--runs", str(runs)])
    with pytest.raises(CompareError, match="absent: is no run; `make runs` lists them"):
        main(["latest", "absent", "--runs", str(runs)])
    (runs / "killed").mkdir()
    with pytest.raises(CompareError, match="killed: has not ended yet, or was killed"):
        main(["latest", "killed", "--runs", str(runs)])
    assert translated(runs / "absent", runs / "absent") == {}


@pytest.mark.skipif(not find_browser(), reason="no Chromium on this machine: the page was NOT opened")
def test_the_page_fits_a_phone_in_both_colour_schemes(runs, tmp_path_factory):
    make_run(runs, "third", 5, seed=1)
    with start_browser(tmp_path_factory.mktemp("browser")) as browser:
        for names in (("20261128T014008Z-small-1a2b", "latest"), ("third", "latest", "20261128T014008Z-small-1a2b")):
            page(runs, *names)
            for width, colours in ((320, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
                with browser.page(width=width, mobile=width < 500, colours=colours) as tab:
                    tab.open((runs / "out.html").as_uri())
                    assert tab.run("document.documentElement.scrollWidth") <= width, (width, names)
                    found = tab.pale()
                    assert found["seen"] > 50 and found["pale"] == []
                    assert tab.complaints == [] and all(url.startswith("file:") for url in tab.requests)
