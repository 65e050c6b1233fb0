"""The predictor's image as a careful cluster runs it: any user, nothing writable but /tmp, no rights, 512 MB."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from model.bundle import Bundle
from pipelines.images import MEGABYTE, Built
from serving.engine import Engine, EngineConfig, GenerationRequest
from tests.helpers.bundles import tiny_bundle
from tests.helpers.containers import CONFINED, built, container, docker, logs
from tests.helpers.servers import wait_until

TRITON_CALL = Path(__file__).resolve().parents[1] / "helpers" / "triton_call.py"
TEXTS = ["привет, мир", "hello", "где дом?"]
LONG = {"prompt": "привет, мир", "target": "en", "max_tokens": 2000}
# As KServe would give them; the rest lets a machine be as busy as it likes.
ARGUMENTS = ("--bundle", "/mnt/models", "--http_port", "8080", "--grpc_port", "8081")
PATIENT = ("--grace_period", "600", "--request_timeout", "600")
# The slim base is 125 MB, and the image on it is to stay within 450 MB.
MOST = 450 - 125


@pytest.fixture(scope="module")
def image() -> Built:
    return built("predictor")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its longest generation takes a second or more, for what must happen while one is running."""
    sizes = {"max_positions": 2048, "decoder_layers": 8, "d_ff": 512}
    return tiny_bundle(tmp_path_factory.mktemp("contained") / "bundle", family="seq2seq", **sizes)


@pytest.fixture(scope="module")
def user() -> int:
    """A number that no password file knows, as OpenShift picks them."""
    return random.randint(100_000, 2_000_000_000)


def url(name: str, port: int) -> str:
    """Where a published port is."""
    return docker("port", name, f"{port}/tcp").splitlines()[0]


def is_ready(name: str) -> Callable[[], bool]:
    def ask() -> bool:
        state = docker("inspect", "--format", "{{.State.Running}}", name)
        assert state == "true", logs(name)
        try:
            return httpx.get(f"http://{url(name, 8080)}/health/ready", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    return ask


@contextmanager
def served(image: Built, bundle: Path, user: int) -> Iterator[str]:
    """A ready container, by its id."""
    options = [*CONFINED, "--user", f"{user}:0", "--memory", "512m", "--memory-swap", "512m"]
    options += ["-v", f"{bundle}:/mnt/models:ro", "-p", "127.0.0.1::8080", "-p", "127.0.0.1::8081"]
    with container(image.image, *options, command=(*ARGUMENTS, *PATIENT)) as name:
        wait_until(is_ready(name), "the container is ready", 180)
        yield name


@pytest.fixture(scope="module")
def running(image: Built, bundle: Path, user: int) -> Iterator[str]:
    with served(image, bundle, user) as name:
        yield name


def test_it_has_no_rights(running: str, user: int) -> None:
    lines = dict(line.split(":\t", 1) for line in docker("exec", running, "cat", "/proc/1/status").splitlines())
    assert set(lines["Uid"].split()) == {str(user)}
    assert {int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert lines["NoNewPrivs"] == "1"
    places = ("/", "/app", "/mnt/models", "/etc", "/tmp")
    writable = [
        at for at in places if docker("exec", running, "sh", "-c", f"touch {at}/x 2>&1 && echo yes || true") == "yes"
    ]
    assert writable == ["/tmp"]


def test_v2_answers_what_the_engine_answers(running: str, bundle: Path) -> None:
    with Engine(Bundle.load(bundle), EngineConfig(threads=1)) as engine:
        asked = [GenerationRequest(engine.prompt(text, target="en"), max_tokens=12) for text in TEXTS]
        expected = [result.text for result in engine.generate(asked)]
    assert all(expected)
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
    body = {"inputs": [tensor], "parameters": {"target": "en", "max_tokens": 12}}
    answer = httpx.post(f"http://{url(running, 8080)}/v2/models/prometheus-mini/infer", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert {each["name"]: each["data"] for each in answer.json()["outputs"]}["text_output"] == expected

    command = [sys.executable, str(TRITON_CALL), url(running, 8081), "", "", "12", *TEXTS]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["outputs"] == expected

    client = openai.OpenAI(base_url=f"http://{url(running, 8080)}/v1", api_key="none")
    chosen = client.completions.create(
        model="prometheus-mini", prompt=TEXTS, max_tokens=12, extra_body={"target": "en"}
    )
    assert [choice.text for choice in chosen.choices] == expected


def test_it_lives_in_512_megabytes(running: str) -> None:
    address = f"http://{url(running, 8080)}/generate"
    with ThreadPoolExecutor(16) as pool:
        statuses = {
            *pool.map(
                lambda _: httpx.post(address, json=LONG | {"max_tokens": 200}, timeout=600).status_code, range(64)
            )
        }
    assert statuses == {200}
    assert (
        docker("inspect", "--format", "{{.HostConfig.Memory}} {{.State.OOMKilled}}", running) == f"{512 * 2**20} false"
    )


def test_sigterm_lets_what_runs_finish(image: Built, bundle: Path, user: int) -> None:
    with served(image, bundle, user) as name, ThreadPoolExecutor(1) as pool:
        http = f"http://{url(name, 8080)}"
        expected = httpx.post(f"{http}/generate", json=LONG, timeout=600).json()["text"]
        assert expected
        rest = pool.submit(httpx.post, f"{http}/generate", json=LONG, timeout=600)
        wait_until(lambda: httpx.get(f"{http}/health").json()["engine"]["running"] == 1, "it runs")
        docker("kill", "--signal", "TERM", name)
        assert rest.result().status_code == 200
        assert rest.result().json()["text"] == expected
        assert docker("wait", name) == "0"
        log = logs(name)
    assert "Traceback" not in log
    assert '"message":"stopped"' in log.splitlines()[-1]


def test_it_is_small(image: Built) -> None:
    assert image.size - image.base_size <= MOST * MEGABYTE
