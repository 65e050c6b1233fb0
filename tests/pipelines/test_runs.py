"""The list of runs tells of each how it ended, whatever is left of it."""

import json
import re

from model.store import set_live
from pipelines.folder import held, point_latest
from pipelines.runs import listed, main


def run_of(runs, name, **summary):
    folder = runs / name
    folder.mkdir()
    found = {"run_id": name, "profile": "small", "started": "2026-11-29T01:40:08+00:00", "seconds": 61.0, **summary}
    (folder / ("summary.json" if "status" in summary else "request.json")).write_text(json.dumps(found))
    return folder


def a_variant(name, chrf, loss):
    scores = [{"test_set": "heldout", "direction": "ru-en", "chrf": chrf}] if chrf else []
    return {"variant": name, "loss": loss, "scores": scores}


def make_runs(tmp_path):
    variants = [a_variant("fp32", 50.0, 2.0), a_variant("int8", 49.5, 2.1)]
    published = {"variant": "int8", "path": "a"}
    run_of(tmp_path, "1-published", status="published", variants=variants, published=published, chosen="int8")
    run_of(tmp_path, "2-refused", status="refused", variants=variants, chosen="none")
    run_of(tmp_path, "3-failed", status="failed", error="no")
    run_of(tmp_path, "4-killed")
    run_of(tmp_path, "5-running")
    run_of(tmp_path, "6-text", status="published", variants=[a_variant("int8", None, 1.5)], published=published)
    (tmp_path / "7-odd").mkdir()
    (tmp_path / "7-odd" / "summary.json").write_text("{")
    (tmp_path / "no run").mkdir()
    set_live(str(tmp_path), "1-published")
    point_latest(tmp_path / "5-running")


def test_the_newest_comes_first_and_each_says_how_it_ended(tmp_path, capsys):
    make_runs(tmp_path)
    with held(tmp_path / "5-running"):
        assert main(["--runs", str(tmp_path)]) == 0
        table = capsys.readouterr().out.splitlines()
        assert main(["--runs", str(tmp_path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert table[0].split() == ["run", "profile", "status", "variant", "chrF", "loss", "time"]
    cells = [re.split(r"\s{2,}", line.strip()) for line in table[1:]]
    assert cells[0] == ["7-odd", "–", "unreadable", "–", "–", "–", "–"]
    assert cells[1] == ["6-text", "small", "published", "int8", "–", "1.500", "1 min 01 s"]
    assert cells[2][:7] == ["latest", "5-running", "small", "running", "–", "–", "–"] and cells[2][7] != "–"
    assert cells[3] == ["4-killed", "small", "killed", "–", "–", "–", "–"]
    assert cells[4] == ["3-failed", "small", "failed", "–", "–", "–", "1 min 01 s"]
    assert cells[5] == ["2-refused", "small", "refused", "fp32", "50.0", "2.000", "1 min 01 s"]
    assert cells[6] == ["live", "1-published", "small", "published", "int8", "49.5", "2.100", "1 min 01 s"]
    assert [each["run_id"] for each in found] == [row[-7 if len(row) == 7 else 1] for row in cells]
    assert found[6]["live"] and found[2]["latest"] and found[6]["chrf"] == 49.5 and found[0]["chrf"] is None


def test_without_runs_it_says_what_makes_one(tmp_path, capsys):
    assert listed(tmp_path / "absent") == [] and main(["--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"there is no run in {tmp_path}: make pipeline-run makes one\n"
