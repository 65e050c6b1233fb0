"""Talking to Kubeflow Pipelines over its REST API (v2beta1): who we are, runs, recurring runs, what a pod said.

Kubeflow's own client is not used to talk: it cannot read a pod's log, has no time-outs, and takes the page of a sign-in
for an answer. Addresses, fields and states are those of backend/api/v2beta1 in Kubeflow Pipelines 2.17.

    Kubeflow("http://localhost:8888").run("a68b9ab1-...")["state"]
"""

import argparse
import base64
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from model.errors import ProjectError, reason
from model.options import Parser

Json = dict[str, Any]
HOST_VARIABLE, TOKEN_VARIABLE, COOKIE_VARIABLE = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE"
# Where Kubeflow's pod defaults put a token that its API accepts, and where Kubernetes says which namespace a pod is in.
POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
POD_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
IN_CLUSTER = "http://ml-pipeline.kubeflow:8888"
SECONDS = 30.0  # for one answer
# Argo's words for the state of a node, and Kubeflow's.
_STATES = {
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Failed": "FAILED",
    "Error": "FAILED",
    "Skipped": "SKIPPED",
    "Omitted": "SKIPPED",
}
_ITERATION = re.compile(r"iteration-iterations\((\d+):")  # the node of one turn of a loop, as Kubeflow calls it
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # of a gateway or a server that is being restarted
_LOG_BYTES = 8_000_000


class KubeflowError(ProjectError):
    """Kubeflow refuses, or answers something that is not its own."""


class Unreachable(KubeflowError):
    """No answer for now: asking again later may get one."""


class Kubeflow:
    """One Kubeflow Pipelines, as one person or one pod sees it."""

    def __init__(
        self, host: str = "", namespace: str = "", token_file: str = "", cookie: str = "", authority: str = ""
    ) -> None:
        """Find out where Kubeflow is and who asks; nothing is sent yet.

        Args:
            host: Its address, with the path under which it is served; empty for $KF_PIPELINES_ENDPOINT or, in a pod,
                the address that Kubeflow has inside the cluster.
            namespace: Whose runs, where Kubeflow has many users; empty for the pod's own.
            token_file: A bearer token, read again for each request, as such files are renewed; empty for
                $KF_PIPELINES_TOKEN or, in a pod, the token of its ServiceAccount.
            cookie: What a browser has after signing in, ``name=value``; empty for $KF_PIPELINES_COOKIE.
            authority: File of the certificates to trust besides the system's.

        Raises:
            KubeflowError: where no address is known, or it is none.
        """
        inside = "KUBERNETES_SERVICE_HOST" in os.environ
        host = host or os.environ.get(HOST_VARIABLE, "") or (IN_CLUSTER if inside else "")
        if not host:
            raise KubeflowError(f"where is Kubeflow? Give its address: HOST=https://..., or ${HOST_VARIABLE}")
        self.host = host.split("/#")[0].rstrip("/")
        if not re.match(r"https?://[^/\s]+", self.host):
            raise KubeflowError(f"{host}: no address of a Kubeflow; one begins with http:// or https://")
        self.namespace = namespace
        self._token_file = token_file or ("" if os.environ.get(TOKEN_VARIABLE) else _pod_token())
        self._cookie = cookie or os.environ.get(COOKIE_VARIABLE, "")
        context = ssl.create_default_context()
        if authority:
            context.load_verify_locations(authority)
        self._open = urllib.request.build_opener(_NoRedirect(), urllib.request.HTTPSHandler(context=context)).open

    def find_namespace(self) -> str:
        """The namespace to run in: asked for, the pod's own, or empty where Kubeflow has one user only.

        Raises:
            KubeflowError: where it has many, and nobody said which.
        """
        if not self.namespace and self._json("GET", "/apis/v2beta1/healthz").get("multi_user"):
            self.namespace = Path(POD_NAMESPACE).read_text("utf-8").strip() if Path(POD_NAMESPACE).exists() else ""
            if not self.namespace:
                raise KubeflowError(f"{self.host}: this Kubeflow has many users: say whose runs, --namespace NAME")
        return self.namespace

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, which is made where there is none."""
        named = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        namespace = {"namespace": self.find_namespace()} if self.find_namespace() else {}
        found = self._json("GET", "/apis/v2beta1/experiments", {**namespace, "filter": json.dumps(named)})
        if found.get("experiments"):
            return found["experiments"][0]["experiment_id"]
        return self._json("POST", "/apis/v2beta1/experiments", body={"display_name": name, **namespace})[
            "experiment_id"
        ]

    def submit(self, run: Mapping[str, Any]) -> Json:
        """Start a run; its fields are those of v2beta1.Run."""
        return self._json("POST", "/apis/v2beta1/runs", body=run)

    def run(self, run_id: str) -> Json:
        """A run with its tasks, as it stands.

        The tasks are the nodes of Argo's workflow, which only v1beta1 hands over: those of v2beta1 name their children,
        and not themselves, so that nobody can tell which pod is whose.
        """
        place = f"runs/{quote(run_id, safe='')}"
        found = self._json("GET", f"/apis/v2beta1/{place}")
        runtime = self._json("GET", f"/apis/v1beta1/{place}").get("pipeline_runtime") or {}
        workflow = json.loads(runtime.get("workflow_manifest") or "{}")
        return {**found, "run_details": {"task_details": _tasks(workflow)}}

    def runs(self, experiment_id: str, count: int = 20) -> list[Json]:
        """The newest runs of an experiment."""
        asked = {"experiment_id": experiment_id, "page_size": count, "sort_by": "created_at desc"}
        return self._json("GET", "/apis/v2beta1/runs", asked).get("runs", [])

    def terminate(self, run_id: str) -> None:
        """End a run and its pods."""
        self._json("POST", f"/apis/v2beta1/runs/{quote(run_id, safe='')}:terminate")

    def log(self, run_id: str, pod: str) -> str:
        """What a pod has said; where the pod is gone, what Argo kept of it; empty where nothing is left."""
        place = f"runs/{quote(run_id, safe='')}/nodes/{quote(pod, safe='')}"
        said = self._text("GET", f"/apis/v1alpha1/{place}/log")
        if not _is_refusal(said):
            return said
        try:
            kept = self._json("GET", f"/apis/v2beta1/{place}/artifacts/main-logs:read").get("data", "")
        except KubeflowError:
            return ""
        return base64.b64decode(kept).decode("utf-8", "replace")

    def recur(self, recurring: Mapping[str, Any]) -> Json:
        """Make a recurring run; its fields are those of v2beta1.RecurringRun."""
        return self._json("POST", "/apis/v2beta1/recurringruns", body=recurring)

    def recurring(self) -> Iterator[Json]:
        """Every recurring run."""
        namespace = self.find_namespace()
        page = ""
        while True:
            asked = {"page_size": 100, "page_token": page, **({"namespace": namespace} if namespace else {})}
            found = self._json("GET", "/apis/v2beta1/recurringruns", asked)
            yield from found.get("recurringRuns") or found.get("recurring_runs") or []
            if not (page := found.get("next_page_token", "")):
                return

    def change_recurring(self, recurring_run_id: str, change: str) -> None:
        """``enable``, ``disable`` or ``delete`` a recurring run; runs that it has started go on."""
        place = f"/apis/v2beta1/recurringruns/{quote(recurring_run_id, safe='')}"
        self._json("DELETE", place) if change == "delete" else self._json("POST", f"{place}:{change}")

    def address(self, run_id: str) -> str:
        """Where a person sees the run."""
        return f"{self.host}/#/runs/details/{run_id}"

    def _json(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Json:
        text = self._text(method, path, query, body)
        try:
            answer = json.loads(text or "{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            what = " ".join(re.sub(r"<[^>]*>", " ", text).split())[:80]
            raise KubeflowError(f"{self.host}{path}: this is not Kubeflow's API, it answers {what!r}; {_SIGN_IN}")
        return answer

    def _text(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> str:
        """One request.

        Raises:
            Unreachable: where no answer comes, or one that says to come again.
            KubeflowError: where we are not let in, or Kubeflow refuses; with its own words.
        """
        address = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None and method != "POST" else json.dumps(body or {}).encode()
        headers = {"Accept": "application/json, text/plain", "Content-Type": "application/json", **self._identity()}
        request = urllib.request.Request(address, data, headers, method=method)
        try:
            with self._open(request, timeout=SECONDS) as answer:
                return answer.read(_LOG_BYTES).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            words = _words(error.read(_LOG_BYTES).decode("utf-8", "replace"))
            told = f"{self.host}{path}: HTTP {error.code}" + (f": {words}" if words else "")
            if error.code in (401, 403) or error.code in range(300, 400):
                raise KubeflowError(f"{told}; {_SIGN_IN}") from None
            raise (Unreachable if error.code in _PASSING else KubeflowError)(told) from None
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            if isinstance(why, ssl.SSLCertVerificationError):
                raise KubeflowError(
                    f"{self.host}: its certificate is not trusted ({why.verify_message}); --authority FILE says whom "
                    "to trust"
                ) from None
            told = reason(why) if isinstance(why, BaseException) else str(why)
            raise Unreachable(f"{self.host} does not answer: {told}") from None

    def _identity(self) -> dict[str, str]:
        token = Path(self._token_file).read_text("utf-8") if self._token_file else os.environ.get(TOKEN_VARIABLE, "")
        given = {"Authorization": f"Bearer {token.strip()}" if token.strip() else "", "Cookie": self._cookie}
        return {name: value for name, value in given.items() if value}


def add_connection(parser: Parser) -> None:
    """The options that say which Kubeflow, and as whom."""
    group = parser.add_argument_group("Kubeflow")
    group.add_argument("--host", default="", help=f"its address; default: ${HOST_VARIABLE}, in a pod Kubeflow's own")
    group.add_argument("--namespace", default="", help="whose runs, where Kubeflow has many users; default: the pod's")
    group.add_argument(
        "--token_file",
        default="",
        help=f"file with a bearer token; default: ${TOKEN_VARIABLE}, or in a pod its ServiceAccount's; a cookie is "
        f"taken from ${COOKIE_VARIABLE}",
    )
    group.add_argument("--authority", default="", help="file of certificates to trust besides the system's")


def connect(options: argparse.Namespace) -> Kubeflow:
    """The Kubeflow of these options."""
    return Kubeflow(options.host, options.namespace, options.token_file, authority=options.authority)


_SIGN_IN = (
    f"to be let in, give a token (--token_file FILE or ${TOKEN_VARIABLE}) or the cookie of a browser that is signed in "
    f"(${COOKIE_VARIABLE})"
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The API redirects nowhere; whoever does wants a person to sign in, and must not be handed our token."""

    redirect_request: Callable[..., None] = lambda *_: None


def _pod_token() -> str:
    path = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", POD_TOKEN)
    return path if Path(path).exists() else ""


def _tasks(workflow: Mapping[str, Any]) -> list[Json]:
    """Argo's nodes in the form of v2beta1's tasks, each with the name of its own pod, or its id where it has none.

    Kubeflow's tasks have no field for the number of their turn in a loop, ``iteration``.
    """
    name = (workflow.get("metadata") or {}).get("name", "")
    nodes = (workflow.get("status") or {}).get("nodes") or {}
    made = []
    for identity, node in nodes.items():
        pod = f"{name}-{node.get('templateName', '')}-{identity.rpartition('-')[2]}"  # Argo's names since 3.4
        made.append(
            {
                "display_name": node.get("displayName", ""),
                "pod_name": pod if node.get("type") == "Pod" else identity,
                "state": _STATES.get(node.get("phase", ""), "PENDING"),
                "start_time": node.get("startedAt"),
                "end_time": node.get("finishedAt"),
                "message": node.get("message", ""),
                "child_tasks": [{"pod_name": child} for child in node.get("children") or []],
                "iteration": _iteration(node, nodes),
            }
        )
    return made


def _iteration(node: Json, nodes: Mapping[str, Json]) -> str:
    """The number of the turn of a loop that a node belongs to; empty where it is in none."""
    while node:
        if turn := _ITERATION.match(node.get("displayName", "")):
            return turn[1]
        node = nodes.get(node.get("boundaryID", ""), {})
    return ""


def _is_refusal(log: str) -> bool:
    """Whether a log is Kubeflow's complaint, which it writes with status 200 where the pod is gone."""
    return log.lstrip().startswith('{"error') and bool(_words(log))


def _words(text: str) -> str:
    """What an error's body says; empty where it says nothing in Kubeflow's form."""
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    said = body.get("error_message") or body.get("message") or body.get("error") if isinstance(body, dict) else ""
    return " ".join(str(said or "").split())[:500]
