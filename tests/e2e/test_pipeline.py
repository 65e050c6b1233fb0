"""One true miniature: the whole pipeline by its command line, its result files, its failures, and its bundle served."""

import html
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.servers import start_server

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["preflight", "prepare-data", "train-tokenizer", "train-model", "variant-fp32", "variant-fp16", "variant-int8"]
STEPS += ["gate", "publish"]


def run_pipeline(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.run", "--profile", "tiny", "--runs", str(runs), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def summary_of(runs: Path) -> dict:
    return json.loads((runs / "latest" / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished miniature run with a test set: (the process, the folder of runs)."""
    folder = tmp_path_factory.mktemp("e2e")
    (folder / "words.tsv").write_text("Это дом.\tThis is a house.\nЭто стол.\tThis is a table.\n", encoding="utf-8")
    done = run_pipeline(folder / "runs", "--test", str(folder / "words.tsv"))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done, folder / "runs"


def test_every_step_ran_and_said_so(finished):
    done, runs = finished
    summary = summary_of(runs)
    assert summary["status"] == "published" and summary["error"] is None
    assert sorted(step["name"] for step in summary["steps"]) == sorted(STEPS)
    assert all(step["status"] == "ok" and step["seconds"] >= 0 for step in summary["steps"])
    for name in STEPS:
        assert f"==> {name}\n" in done.stdout
        assert re.search(rf"^<== {name}: ok, \d+\.\d s$", done.stdout, re.M)
    assert done.stdout.rstrip().splitlines()[-1] == "OK"
    assert "executor_input" not in done.stdout and "\x1b" not in done.stdout
    assert "executor_input" in (runs / "latest" / "kfp.log").read_text(encoding="utf-8")


def test_the_summary_holds_the_contract(finished):
    _, runs = finished
    summary = summary_of(runs)
    assert summary["run_id"] == (runs / "latest").resolve().name
    assert summary["profile"] == "tiny" and re.search(r"-[0-9a-f]{10}$", summary["code_version"])
    assert summary["corpus"]["counts"]["heldout"] == 20 and summary["corpus"]["counts"]["test"] == {"words": 2}
    assert summary["tokenizer"] and summary["versions"]["torch"] and summary["hardware"]["cores"]
    assert summary["training"]["steps"] == 120 and summary["training"]["valid_loss"] > 0
    assert [point["step"] for point in summary["curves"] if "valid_loss" in point][-1] == 120
    assert [variant["variant"] for variant in summary["variants"]] == ["fp32", "fp16", "int8"]
    for variant in summary["variants"]:
        assert variant["bytes"] > 0 and variant["loss"] > 0 and variant["peak_memory_mb"] > 0
        assert set(variant["tokens_per_second"]) == {"1", "32"}
        measured = {(score["test_set"], score["direction"]) for score in variant["scores"]}
        assert measured == {(s, d) for s in ("heldout", "words") for d in ("ru-en", "en-ru")}
        assert all(
            "version:" in score[key] for score in variant["scores"] for key in ("bleu_signature", "chrf_signature")
        )
    fp32, fp16, int8 = (variant["search"] for variant in summary["variants"])
    assert fp32 is None and fp16 is None and int8["beams"] == 4 and len(int8["scores"]) == 4
    assert summary["generation"] == {"beams": 1, "why": "set by gate.default_beams"}
    assert summary["gates"] and all({"threshold", "value", "passed"} <= set(gate) for gate in summary["gates"])
    assert summary["published"]["path"] == str((runs / "latest").resolve() / "bundle")


def test_int8_is_smaller_than_fp32(finished):
    fp32, _, int8 = summary_of(finished[1])["variants"]
    assert int8["bytes"] < fp32["bytes"]


def test_the_report_is_one_file_with_plots(finished):
    report = (finished[1] / "latest" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in report and "int8" in report
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?:", report)


def test_the_published_bundle_is_the_chosen_one_and_whole(finished):
    from model.bundle import Bundle

    summary = summary_of(finished[1])
    bundle = Bundle.load(finished[1] / "latest" / "bundle", verify=True)
    assert bundle.precision == summary["published"]["variant"] == "int8"
    assert bundle.provenance["run_id"] == summary["run_id"]
    assert bundle.provenance["hardware"] == summary["variants"][0]["hardware"]


def test_nothing_half_made_is_left(finished):
    left = [path for path in finished[1].rglob("*") if re.search(r"partial|draft|\.tmp$", path.name)]
    assert not left


def test_a_run_begins_with_the_weights_and_the_tokenizer_of_another(finished, tmp_path):
    """On the same text, so that the loss before the first step is the one that the other run ended with."""
    _, runs = finished
    first = summary_of(runs)
    few = ["training.steps=20", "training.eval_every=10", "evaluation.max_rows=4", "evaluation.varied_rows=0"]
    done = run_pipeline(tmp_path, "--init_from", str(runs / "latest"), "--set", *few)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"beginning with the weights of {first['run_id']}, sha256 " in done.stdout
    summary = summary_of(tmp_path)
    assert summary["training"]["init_from"]["name"] == first["run_id"]
    assert summary["curves"][0]["step"] == 0
    assert summary["curves"][0]["valid_loss"] == first["training"]["valid_loss"] >= summary["training"]["valid_loss"]
    assert summary["tokenizer"]["sha256"] == first["tokenizer"]["sha256"] and summary["tokenizer"]["sampled_lines"] == 0
    manifest = json.loads((tmp_path / "latest" / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    assert manifest["provenance"]["training"]["init_from"] == summary["training"]["init_from"]


def test_an_impossible_gate_fails_the_run_and_is_named_last(tmp_path):
    done = run_pipeline(tmp_path, "--set", "gate.min_chrf={heldout/ru-en: 99.9}")
    assert done.returncode == 1
    *_, mark, fp32, fp16, int8 = done.stdout.rstrip().splitlines()
    assert mark == "REFUSED, nothing is published:"
    for variant, line in (("fp32", fp32), ("fp16", fp16), ("int8", int8)):
        assert re.match(rf"  gate min_chrf heldout/ru-en of {variant}: \d+\.\d\d, must be ≥ 99\.9", line), line
    summary = summary_of(tmp_path)
    assert summary["status"] == "refused" and summary["published"] is None
    assert not (tmp_path / "latest" / "bundle").exists()
    assert (tmp_path / "latest" / "report.html").exists()
    assert (summary["steps"][-1]["name"], summary["steps"][-1]["status"]) == ("refuse", "failed")
    assert summary["steps"][-1]["error"].startswith(
        "nothing is published: no variant passed its gates; failed: min_chrf"
    )


def test_a_variant_is_held_back_and_the_run_that_is_refused_can_be_judged_again(tmp_path):
    """One training: the first verdict refuses, the second publishes without int8, and neither trains again."""
    few = ["training.steps=60", "evaluation.max_rows=4", "evaluation.loss_rows=4"]
    done = run_pipeline(tmp_path, "--set", *few, "gate.max_loss=0.1")
    assert done.returncode == 1 and not (tmp_path / "live").exists()
    assert "REFUSED, nothing is published:" in done.stdout

    again = [sys.executable, "-m", "pipelines.run", "--runs", str(tmp_path), "--resume", "latest", "--set"]
    done = subprocess.run([*again, "training.steps=61"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "training.steps: with another one, training would begin anew" in done.stderr

    changes = ["gate.max_loss=0", "gate.max_bytes_ratio={int8: 0.01}", "gate.default_beams=4"]
    done = subprocess.run([*again, *changes], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "other than before: gate.max_bytes_ratio.int8, gate.max_loss, gate.default_beams" in done.stdout
    *_, warning, why, last = done.stdout.rstrip().splitlines()
    assert warning == "WARNING: int8 is held back:" and last == "OK, with int8 held back"
    assert why.startswith("  gate max_bytes_ratio of int8: ")
    summary = summary_of(tmp_path)
    assert summary["status"] == "held back" and summary["published"]["variant"] == "fp32"
    assert [step["name"] for step in summary["steps"] if not step.get("reused")] == ["preflight", "gate", "publish"]
    assert (tmp_path / "live").resolve() == (tmp_path / "latest").resolve()
    manifest = json.loads((tmp_path / "live" / "bundle" / "bundle.json").read_text("utf-8"))
    assert manifest["generation"] == {"beams": 4} and manifest["precision"] == "fp32"
    page = (tmp_path / "latest" / "report.html").read_text(encoding="utf-8")
    assert "Published: fp32." in page and "Held back: int8." in page


def long_pairs(path: Path) -> Path:
    """600 different pairs, 320 of them of 14 sentences."""
    ru, en = ["кот", "дом", "сад", "лес", "мост", "стол"], ["cat", "house", "garden", "forest", "bridge", "table"]
    lines = []
    for i in range(600):
        digits = [i // 6**k % 6 for k in range(4)]
        sides = (f"{' '.join(words[d] for d in digits)}." for words in (ru, en))
        lines.append("\t".join(" ".join([side] * (14 if i < 320 else 1)) for side in sides))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_garbage_is_not_published_and_every_row_is_counted(tmp_path):
    """Three steps of training, on rows half of which do not fit: figures of terminal, summary and report agree."""
    settings = ["training.steps=3", "training.batch_tokens=30000", "network.max_positions=48"]
    done = run_pipeline(tmp_path / "runs", "--corpus", str(long_pairs(tmp_path / "long.tsv")), "--set", *settings)
    summary = summary_of(tmp_path / "runs")
    assert done.returncode == 1 and summary["published"] is None, done.stdout[-4000:] + done.stderr[-4000:]
    assert not (tmp_path / "runs" / "latest" / "bundle").exists()
    said = done.stdout.rpartition("REFUSED, nothing is published:")[2]
    for variant in ("fp32", "fp16", "int8"):
        assert re.search(rf"gate unigram ru-en of {variant}: \d+\.\d+, must be < \d+\.\d+", said), said

    page = (tmp_path / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    report = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    counts, corpus = summary["row_counts"], summary["corpus"]["counts"]
    for entry in counts:
        assert entry["rows"] == entry["used"] + sum(entry["left_out"].values()) and entry["used"] >= 0, entry
        where = " ".join(filter(None, (entry["split"], entry.get("direction"))))
        assert f"{entry['step']} {where} {entry['rows']} {entry['used']} " in report, entry
        if entry["split"] in corpus:
            assert entry["rows"] == corpus[entry["split"]], entry
    steps = {(entry["step"], entry.get("direction")): entry for entry in counts}
    assert set(steps) >= {("prepare-data", None), ("validation", None), ("calibration", None), ("speed", None)}
    assert steps[("prepare-data", None)]["used"] == corpus["train"] + corpus["valid"] + corpus["heldout"] == 600
    trained = steps[("training", None)]
    long = trained["left_out"]["too long (network.max_positions 48)"]
    assert 250 < long < 330 and trained["used"] == corpus["train"] - long
    assert f"training {trained['used']} of {corpus['train']} train rows ({long} too long" in done.stdout
    for direction in ("ru-en", "en-ru"):
        assert steps[("scores", direction)]["cut"] + sum(steps[("loss", direction)]["left_out"].values()) > 12
    warning = f"WARNING: more than a quarter of the rows are too long for training ({long} of {corpus['train']})"
    before, training, _ = done.stdout.partition("training: step ")
    assert training and warning in before, "told before the long wait, too"
    assert warning in done.stdout.rpartition("summary  ")[2] and warning in report


def test_a_bad_corpus_fails_in_its_step_with_the_file_and_the_line(tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text("нет табуляции\n" * 50, encoding="utf-8")
    done = run_pipeline(tmp_path / "runs", "--corpus", str(bad))
    assert done.returncode == 1
    assert "step prepare-data failed after " in done.stdout.rstrip().splitlines()[-1]
    assert "bad.tsv" in done.stdout.rstrip().splitlines()[-1]
    summary = summary_of(tmp_path / "runs")
    steps = [(s["name"], s["status"]) for s in summary["steps"]]
    assert steps == [("preflight", "ok"), ("prepare-data", "failed")]
    assert summary["variants"] == [] and summary["published"] is None


def test_a_request_that_cannot_be_run_starts_nothing(tmp_path):
    done = run_pipeline(tmp_path / "runs", "--corpus", "absent.tsv", "--set", "training.stepz=1")
    assert done.returncode == 2
    for part in ("Nothing was run:", "CORPUS: absent.tsv: no such file", "tiny.training.stepz"):
        assert part in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_stopped_run_leaves_its_summary(tmp_path):
    command = [sys.executable, "-m", "pipelines.run", "--profile", "tiny", "--runs", str(tmp_path)]
    command += ["--set", "training.steps=100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    for line in process.stdout:
        if re.match(r"training: step \d+/100,?000", line):
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 130, output
    last = output.rstrip().splitlines()[-1].strip()
    told = re.match(r"step train-model killed after .*: asked to end after step (\d+), whose state is kept", last)
    assert told, last
    (kept,) = list(tmp_path.glob(f"2*/artifacts/*/train-model/checkpoint/last/step-{int(told[1]):08}"))
    assert (kept / "manifest.json").exists()
    summary = summary_of(tmp_path)
    assert summary["status"] == "failed"
    assert (summary["steps"][-1]["name"], summary["steps"][-1]["status"]) == ("train-model", "killed")


def test_the_published_bundle_is_served_and_answers(finished, tmp_path):
    """Plain HTTP, then other people's clients, each in a process of its own."""
    infer = "/v2/models/prometheus-mini/infer"
    body = {
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["Это дом.", "Это стол."]}],
        "parameters": {"target": "en", "max_tokens": 5, "temperature": 0},
    }
    with start_server(finished[1] / "latest" / "bundle", tmp_path / "server.log") as server:
        answer = server.post(infer, body).json()
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert outputs["text_output"]["shape"] == [2]
        assert all(1 <= n <= 5 for n in outputs["generated_tokens"]["data"])
        assert answer["outputs"] == server.post(infer, body).json()["outputs"]
        refused = server.post(infer, body | {"parameters": {"target": "de"}})
        assert refused.status_code == 400 and "target" in refused.json()["error"]
        for script, ports in (
            ("triton_http", [server.http_port]),
            ("triton_grpc", [server.grpc_port]),
            ("kserve_clients", [server.http_port, server.grpc_port]),
            ("openai_python", [server.http_port]),
        ):
            command = [sys.executable, str(ROOT / "tests/serving/clients" / f"{script}.py"), *map(str, ports)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0 and done.stdout.strip().endswith("ok"), done.stdout + done.stderr
