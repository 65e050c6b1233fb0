"""`kubectl apply -f k8s/` on a real cluster: accepted, Ready, and right in every protocol by every way in."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from tests.helpers.cluster import ROOT, SERVICE
from tests.helpers.steady import Target

FOLDERS = ["k8s", *sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("k8s/*/kustomization.yaml"))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_server_takes_every_manifest(cluster, folder, record):
    """Real admission: schemas, KServe's webhooks, quantities, names."""
    made = cluster.rendered(folder)
    missing = {f"{each['kind']} ({each['apiVersion']})" for each in made if not cluster.knows(each)}
    if missing:
        pytest.skip(f"this cluster has no {', '.join(sorted(missing))}: `make cluster-install` brings them")
    cluster.create(*made, dry_run=True)
    record(f"accepted {folder}", {"objects": sorted(f"{each['kind']}/{each['metadata']['name']}" for each in made)})


@pytest.fixture(scope="module", params=["Service", "Gateway"])
def way(request, service):
    """Each way in: the cluster's own Service, and the Gateway from outside."""
    return service.target() if request.param == "Service" else service.gateway()


def url(target: Target) -> str:
    return f"http://{target.host}:{target.port}"


def headers(target: Target) -> dict[str, str]:
    return {"host": target.authority} if target.authority else {}


@pytest.fixture(scope="module")
def rest(way):
    with httpx.Client(base_url=url(way), headers=headers(way), timeout=30, trust_env=False) as client:
        yield client


def test_v2_rest(rest):
    metadata = rest.get(f"/v2/models/{SERVICE}").json()
    assert metadata["name"] == SERVICE
    assert rest.get("/v2/health/ready").status_code == 200
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["Привет!", "hello"]}
    body = {"inputs": [tensor], "parameters": {"max_tokens": 5}}
    answer = rest.post(f"/v2/models/{SERVICE}/infer", json=body)
    assert answer.status_code == 200, answer.text
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    assert len(outputs["text_output"]) == 2


def test_v2_grpc(way):
    address = f"{way.host}:{way.grpc_port}"
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "triton_call.py"), address, way.authority, way.token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads(done.stdout)["outputs"]) == 2


def test_openai_stream(rest):
    body = {"model": SERVICE, "prompt": "Привет!", "max_tokens": 8, "stream": True}
    with rest.stream("POST", "/openai/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["choices"] for event in events[:-1])


def test_the_doors_of_other_clients(rest):
    """LibreTranslate's and DeepL's, and the page of all addresses."""
    translated = rest.post("/translate", json={"q": ["Привет!"], "source": "auto", "target": "en"})
    assert translated.status_code == 200 and len(translated.json()["translatedText"]) == 1, translated.text
    assert rest.post("/detect", json={"q": "Привет!"}).json()[0]["language"] == "ru"
    assert {"ru", "en"} <= {each["code"] for each in rest.get("/languages").json()}
    assert rest.get("/frontend/settings").status_code == 200
    deepl = rest.post("/v2/translate", json={"text": ["Привет!"], "target_lang": "EN"})
    assert deepl.status_code == 200 and len(deepl.json()["translations"]) == 1, deepl.text
    assert "/translate" in rest.get("/openapi.json").json()["paths"] and rest.get("/docs").status_code == 200


def test_info_names_the_run(rest, service):
    assert rest.get("/info").json()["bundle"]["run_id"] == service.runs[0]


def test_metrics_stay_inside(service):
    """Prometheus asks the pods; the Gateway's route leaves /metrics out."""
    inside, outside = service.target(), service.gateway()
    metrics = httpx.get(f"{url(inside)}/metrics", trust_env=False).text
    assert "slm_request_success_total" in metrics
    assert f'run_id="{service.runs[0]}"' in metrics
    assert httpx.get(f"{url(outside)}/metrics", headers=headers(outside), trust_env=False).status_code == 404


def test_the_pod_is_as_unprivileged_as_it_says(cluster, service, record):
    pod = cluster.ready_pods()[0]["metadata"]["name"]
    look = (
        "import os, pathlib, sys\n"
        "def writes(p):\n"
        "    try: pathlib.Path(p, 'x').write_text('x'); return True\n"
        "    except OSError: return False\n"
        "status = dict(l.split(':\\t') for l in open('/proc/1/status').read().splitlines() if ':\\t' in l)\n"
        "import json; print(json.dumps({'uid': os.getuid(), 'effective_capabilities': status['CapEff'],\n"
        "  'no_new_privileges': status['NoNewPrivs'], 'seccomp': status['Seccomp'],\n"
        "  'writes': [p for p in ('/', '/app', '/usr', '/mnt/models', '/tmp') if writes(p)],\n"
        "  'token': os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount')}))"
    )
    told = json.loads(cluster.kubectl("exec", pod, "-c", "kserve-container", "--", "python3", "-c", look))
    record("pod", {**told, "ready_seconds": service.ready_seconds})
    assert told["uid"] != 0
    assert int(told["effective_capabilities"], 16) == 0
    assert told["no_new_privileges"] == "1"
    assert told["seccomp"] == "2"  # a filter
    assert told["writes"] == ["/tmp"]
    assert not told["token"]
