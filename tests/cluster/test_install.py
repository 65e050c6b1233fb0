"""`make cluster-install` on a cluster that has everything changes nothing, and says so for every part."""

import subprocess

from tests.helpers.cluster import ROOT

PARTS = ("KServe", "Gateway kserve/kserve-ingress-gateway", "KServe's HTTPRoutes", "KEDA", "Prometheus")


def versions(cluster) -> dict[str, str]:
    kinds = ("deployments", "customresourcedefinitions", "gatewayclasses")
    found = [each for kind in kinds for each in cluster.get(kind, "--all-namespaces")["items"]]
    return {
        f"{each['kind']} {each['metadata'].get('namespace', '')}/{each['metadata']['name']}": each["metadata"].get(
            "generation"
        )
        for each in found
    }


def test_what_is_there_is_left_as_it_is(cluster, record):
    before = versions(cluster)
    done = subprocess.run(
        ["make", "--no-print-directory", "cluster-install"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line.split(":")[0] for line in done.stdout.splitlines() if "left as it is" in line]
    record("cluster-install", {"there already": told})
    assert all(any(line.startswith(part) for line in told) for part in PARTS), done.stdout
    assert versions(cluster) == before
