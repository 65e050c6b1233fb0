"""The Kubernetes API and what runs behind it, spoken to over HTTP: JSON in, JSON out, and errors in words.

The client library brings the credentials (kubeconfig, or the ServiceAccount of the pod that this runs in); its classes
know nothing of KServe and garble what a pod answers through the API server, so they are left aside.
"""

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, urlencode

from model.errors import ProjectError, reason

Json = dict[str, Any]
Reach = Literal["auto", "direct", "proxy"]
MERGE, PATCHED_BY = "application/merge-patch+json", "prometheus-mini-release"
SECONDS = 30  # for one answer of the API server, or of a pod
UNSEEN = "failed calling webhook"  # a controller had no time to look at a change, which was then not made
PATIENCE = 60.0  # seconds that such a change is sent again


class ClusterError(ProjectError):
    """The cluster does not answer, or refuses; ``status`` is HTTP's, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(ClusterError):
    """A pod that did not answer at all."""


class Cluster:
    """One cluster's API server.

    Args:
        reach: how pods are spoken to: "direct" by their own address, "proxy" through the API server, "auto" directly
            where this runs in the cluster, and through the API server where that fails.
        token: the access token that the predictor demands; it only travels directly, for the API server keeps the
            Authorization header for itself.
    """

    def __init__(self, reach: Reach = "auto", token: str = "") -> None:
        from kubernetes import client, config

        self.inside = not os.environ.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in os.environ
        settings = client.Configuration()
        try:
            if self.inside:
                config.load_incluster_config(settings)
            else:
                # Named, for the library reads the variable only once, when it is loaded.
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                f"no cluster is known here ({reason(error)}); set KUBECONFIG, or leave --service out for this machine"
            ) from None
        settings.retries = False
        self._client, self.host = client.ApiClient(settings), settings.host
        self.reach, self.token = reach, token

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One call of the API.

        Raises:
            ClusterError: with the API server's own words, or that it does not answer.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "*/*", "Content-Type": content_type}
        address = f"{path}?{urlencode(query)}" if query else path
        try:
            answer = self._client.call_api(
                address,
                method,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=SECONDS,
            )
        except ApiException as error:
            raise ClusterError(f"{method} {path}: {_words(error)}", error.status or 0) from None
        except (HTTPError, OSError) as error:
            raise ClusterError(f"the API server {self.host} does not answer: {reason(error)}") from None
        return answer.data

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """A resource, or a list of them."""
        return json.loads(self.request("GET", path, query=query))

    def patch(self, path: str, body: Json) -> Json:
        """Merge into a resource; None takes a field away, metadata.resourceVersion makes it fail where that is past.

        Raises:
            ClusterError: as :meth:`request`; on a busy cluster, where webhooks do not answer in time, after a minute.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return json.loads(self.request("PATCH", path, body, {"fieldManager": PATCHED_BY}, MERGE))
            except ClusterError as error:
                if UNSEEN not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(1)

    def ask(self, pod: Json, method: str, path: str, body: Json | None = None, port: int = 8080) -> bytes:
        """One call of a pod's own server.

        Raises:
            Unreachable: where it did not answer.
            ClusterError: where it, or the API server on the way, answered with an error.
        """
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if self.reach == "direct" or (self.reach == "auto" and self.inside):
            try:
                return self._direct(pod["status"].get("podIP", ""), port, method, path, body)
            except Unreachable:
                if self.reach == "direct":
                    raise
        return self.request(method, f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{quote(path)}", body)

    def log(self, pod: Json, container: str, previous: bool, lines: int = 40) -> list[str]:
        """The last lines of a container's log that say something; none where there is no log."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        with contextlib.suppress(ClusterError):
            text = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log", query=query)
            return [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
        return []

    def _direct(self, ip: str, port: int, method: str, path: str, body: Json | None) -> bytes:
        host = f"[{ip}]" if ":" in ip else ip
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{host}:{port}{path}", data, {"Content-Type": "application/json"})
        request.method = method
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        # A proxy of the environment's leads out of the cluster, not to its pods.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            words = " ".join(error.read(500).decode("utf-8", "replace").split())
            raise ClusterError(f"{method} {path}: {error.code} {words}", error.code) from None
        except OSError as error:
            raise Unreachable(f"{ip}:{port} does not answer: {reason(error)}") from None


def _words(error: Any) -> str:
    """What the API server said, without its envelope."""
    text = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message") or text
    return f"{error.status} {' '.join(text.split())[:500] or error.reason}"
