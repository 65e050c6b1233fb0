"""The steps in real containers: the same run as in processes, no more than they need, and nothing left behind.

An engine is found as by `RUNNER=docker make pipeline-run`; the image is the one of this code (`make images`), or
$PROMETHEUS_TEST_IMAGE with the code of this checkout put into it.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from model.bundle import Bundle
from pipelines.containers import LABEL
from pipelines.engine import EngineError, connect, find_image, started
from pipelines.images import HERE, tag
from pipelines.provenance import SOURCES
from tests.helpers.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]
TEST = "python3 тесты: 'x', и y.tsv"
SECRET = "s3cret-of-the-caller"


@pytest.fixture(scope="module")
def engine():
    try:
        return connect()
    except EngineError as error:
        pytest.skip(f"the steps were NOT run in containers: {error}")


def image_with(engine, base, files, name):
    """An image like ``base`` that has these files (bytes by their path below /app)."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(f"code/{path}")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
        recipe = f"FROM {base}\nENV PROMETHEUS_CODE_DESCRIBED=test\nCOPY code /app\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(recipe)
        tar.addfile(entry, io.BytesIO(recipe))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=name, rm=True)
    return name


@pytest.fixture(scope="module")
def image(engine):
    """Name of the steps' image."""
    if named := os.environ.get("PROMETHEUS_TEST_IMAGE"):
        code = (path for package in SOURCES for path in (ROOT / package).rglob("*.*") if path.is_file())
        files = {str(path.relative_to(ROOT)): path.read_bytes() for path in code if path.suffix != ".pyc"}
        made = image_with(engine, named, files, "localhost/prometheus-mini/test-steps:code")
        yield made
        engine.images.remove(made, force=True)
        return
    name = f"{HERE}/prometheus-mini/pipeline:{tag('cpu')}"
    if not find_image(engine, [name]):
        pytest.skip(f"the steps were NOT run in containers: the engine has no image {name}; `make images` builds it")
    yield name


def command(runs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.run", "--profile", "tiny", "--runs", str(runs), *more]


def environment(image: str, **more: str) -> dict[str, str]:
    given = {"PROMETHEUS_IMAGE": image, "PROMETHEUS_TRACKING": "off", "AWS_SECRET_ACCESS_KEY": SECRET}
    return {**os.environ, **given, "AWS_ACCESS_KEY_ID": "key", "HF_TOKEN": SECRET, **more}


def run(image: str, runs: Path, *more: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    given = environment(image, PYTHONPATH=str(ROOT), **variables)
    return subprocess.run(command(runs, *more), cwd=cwd, env=given, capture_output=True, text=True, check=False)


def containers_of(engine, run_dir: Path) -> list:
    return engine.containers.list(all=True, filters={"label": f"{LABEL}={run_dir}"}, ignore_removed=True)


def newest(runs: Path) -> Path:
    return sorted(runs.glob("2*"))[-1]


def summary_of(runs: Path) -> dict:
    return json.loads((newest(runs) / "summary.json").read_text("utf-8"))


def marks(said: str) -> list[str]:
    """The lines that are the same in every run: what began, how it ended, what was counted and published."""
    kept = [line for line in said.splitlines() if re.match(r"==>|<==|rows:|corpus: .*(rows$|none$)|published|OK", line)]
    return [re.sub(r"[\d.,]+ s$|[\w./-]+-tiny-[0-9a-f]{4}", "…", line) for line in kept]


@pytest.fixture(scope="module")
def both(image, tmp_path_factory):
    """The same run in processes and in containers, both from a folder where the files have short names: their output
    and their folders of runs."""
    folder = tmp_path_factory.mktemp("my python3 (клон) $HOME")
    (folder / TEST).write_text("Это дом.\tThis is a house.\nЭто стол.\tThis is a table.\n", encoding="utf-8")
    found = {}
    for runner in ("local", "docker"):
        done = run(image, Path(runner), "--runner", runner, "--test", TEST, cwd=folder)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        found[runner] = (done.stdout, folder / runner)
    return found


def test_a_run_in_containers_says_and_writes_what_one_in_processes_does(both):
    (said, runs), (expected, local) = both["docker"], both["local"]
    assert marks(said) == marks(expected) and said.rstrip().splitlines()[-1] == "OK"
    summary, other = summary_of(runs), summary_of(local)

    def shape(value):
        """Keys all the way down, the names of libraries excepted: another environment has others."""
        if isinstance(value, dict):
            return {key: key != "versions" and shape(inner) for key, inner in value.items()}
        return [shape(inner) for inner in value] if isinstance(value, list) else None

    for found in (summary, other):  # how often training tells of itself is a matter of speed
        found.pop("curves")
    assert shape(summary) == shape(other)
    assert [step["name"] for step in summary["steps"]] == [step["name"] for step in other["steps"]]
    assert summary["corpus"]["counts"] == other["corpus"]["counts"] and summary["settings"] == other["settings"]
    assert "<svg" in (newest(runs) / "report.html").read_text("utf-8")
    left = {path.name for path in newest(runs).iterdir()}
    assert left == {path.name for path in newest(local).iterdir()}


def test_versions_and_hardware_are_those_of_the_containers(engine, image, both):
    words = ["python3", "-m", "pipelines.provenance"]
    with started(engine, find_image(engine, [image]), entrypoint=words, network_mode="none") as container:
        container.wait()
        told = json.loads(container.logs(stderr=False))
    summary = summary_of(both["docker"][1])
    assert summary["versions"] == told["versions"] and summary["hardware"]["cpu"] == told["hardware"]["cpu"]


def test_the_published_bundle_is_whole_and_the_callers(both):
    runs = both["docker"][1]
    bundle = runs / "live" / "bundle"
    assert Bundle.load(bundle, verify=True).provenance["run_id"] == newest(runs).name
    for path in newest(runs).rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (os.getuid(), os.getgid()), path


def test_no_container_is_left_and_no_secret_told(engine, both):
    said, runs = both["docker"]
    assert containers_of(engine, newest(runs)) == []
    assert SECRET not in said
    for path in newest(runs).rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_failing_step_fails_the_run_with_its_own_words(engine, image, tmp_path):
    """Kubeflow's own runner of containers takes this for a success (kubeflow/pipelines #13332)."""
    bad = tmp_path / "bad.tsv"
    bad.write_text("нет табуляции\n" * 50, encoding="utf-8")
    done = run(image, tmp_path / "runs", "--runner", "docker", "--corpus", str(bad))
    last = done.stdout.rstrip().splitlines()[-1]
    assert done.returncode == 1 and re.search(r"step [\w-]+ failed after .*bad\.tsv", last), done.stdout + done.stderr
    assert summary_of(tmp_path / "runs")["published"] is None
    assert containers_of(engine, newest(tmp_path / "runs")) == []


def test_an_image_with_other_code_is_refused_by_its_first_step(engine, image, tmp_path):
    changed = (ROOT / "model" / "errors.py").read_bytes() + b"\n# another\n"
    other = image_with(engine, image, {"model/errors.py": changed}, "localhost/prometheus-mini/test-steps:other")
    try:
        done = run(other, tmp_path / "runs", "--runner", "docker")
    finally:
        engine.images.remove(other, force=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a step that differs refuses to run" in done.stdout.splitlines()[2]
    (step,) = summary_of(tmp_path / "runs")["steps"]
    assert step["status"] == "failed" and "code" in step["error"]
    assert step["error"] in done.stdout.rstrip().splitlines()[-1]


def test_a_store_that_needs_keys_gets_them_and_the_network(image, tmp_path):
    """From a bucket, at 127.0.0.1, comes text that is none; its words in the error show that it was read."""
    import boto3

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        given = {"AWS_ENDPOINT_URL": f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}"}
        given |= {"AWS_DEFAULT_REGION": "us-east-1"}
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        store = boto3.client("s3", endpoint_url=given["AWS_ENDPOINT_URL"], **keys)
        store.create_bucket(Bucket="texts")
        store.put_object(Bucket="texts", Key="bad.tsv", Body="нет табуляции\n".encode() * 50)
        more = ["--runner", "docker", "--corpus", "s3://texts/bad.tsv", "--publish_to", "s3://texts/models"]
        done = run(image, tmp_path / "runs", *more, **given)
    finally:
        server.stop()
    assert done.returncode == 1 and "bad.tsv:" in done.stdout.rstrip().splitlines()[-1], done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    for path in newest(tmp_path / "runs").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_whatever_ends_the_run_ends_its_container(engine, image, tmp_path, number):
    """And while it trains, its container has no network, no keys, no rights, and text that it cannot write to."""
    runs = tmp_path / "runs"
    words = [*command(runs, "--runner", "docker"), "--set", "training.steps=100000"]
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment(image), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if re.match(r"training: step \d+/100,?000", line):
            break
    (container,) = containers_of(engine, newest(runs))
    told, host = container.attrs, container.attrs["HostConfig"]
    assert told["Config"]["User"] == f"{os.getuid()}:{os.getgid()}" and host["NetworkMode"] == "none"
    assert SECRET not in json.dumps(told)
    writable = {mount["Destination"]: mount["RW"] for mount in told["Mounts"]}
    assert writable[str(newest(runs))] and not writable[str(ROOT / "pipelines" / "profiles" / "demo.jsonl.zst")]
    assert not host.get("Privileged") and not host.get("CapAdd")

    process.send_signal(number)
    output, _ = process.communicate(timeout=180)
    if number == signal.SIGKILL:  # nobody is left to remove it, but it ends, and the next run sweeps it up
        until = time.monotonic() + 60
        while time.monotonic() < until and container.status == "running":
            time.sleep(0.5)
            container.reload()
        assert container.status == "exited"
        run(image, runs, "--runner", "docker", "--corpus", "http://127.0.0.1:9/a.tsv")
        killed = json.loads((sorted(runs.glob("2*"))[0] / "summary.json").read_text("utf-8"))
        assert killed["steps"][-1]["status"] == "killed"
        assert containers_of(engine, sorted(runs.glob("2*"))[0]) == []
    else:
        assert process.returncode == 130, output
        assert output.rstrip().splitlines()[-1].strip().startswith("step train-model killed after ")
        assert summary_of(runs)["steps"][-1]["status"] == "killed"
        assert containers_of(engine, newest(runs)) == []


def test_a_run_that_is_killed_goes_on_in_containers(image, tmp_path):
    runs = tmp_path / "runs"
    words = [*command(runs, "--runner", "docker"), "--set", "training.save_every=20"]
    process = subprocess.Popen(words, cwd=ROOT, env=environment(image), stdout=subprocess.DEVNULL)
    wait_until(
        lambda: any(runs.glob("2*/artifacts/*/train-model/checkpoint/last/step-*/progress.json")), "a checkpoint", 300
    )
    process.kill()
    process.wait()
    again = [sys.executable, "-m", "pipelines.run", "--runs", str(runs), "--resume", "latest"]
    done = subprocess.run(again, cwd=ROOT, env=environment(image), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "<== train-tokenizer: used again" in done.stdout and "resuming after step" in done.stdout
    assert len(list(runs.glob("2*"))) == 1 and f"in containers of {image}" in done.stdout
