"""An InferenceService and its Deployment: where its pointer points, where it pointed before, and moving it.

Two annotations remember a release: the run, and the addresses before, the latest last. KServe hands annotations on to
the pods, so they change in the same patch as the address, and come back with it: then the pods of before are the very
pods that a rollback needs, and none has to be made anew.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model.errors import ProjectError
from model.store import split
from release.cluster import PATCHED_BY, Cluster, ClusterError, Json
from release.pods import SOURCE, Pod

RUN, BEFORE = "release.prometheus-mini/run", "release.prometheus-mini/before"
KEPT = 5  # addresses that one can go back through
TRIES = 20  # at a patch, against a controller that writes the status at the same time
CANARY = "-canary"  # the end of the name of a service that a version is tried on first (k8s/canary)
CONFLICT, NOT_FOUND, FORBIDDEN = 409, 404, 403
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class ReleaseError(ProjectError):
    """A release that cannot be made; nothing was changed."""


@dataclass(frozen=True)
class Pointer:
    """Where a service points, and the marks of its releases."""

    address: str  # empty where nothing has been released yet
    run_id: str  # as the address has it; empty where it has none
    before: tuple[str, ...]
    marks: dict[str, str | None]  # the annotations as they are; None where there is none
    version: str  # the resource's, for a patch that must not overwrite another's
    since: str  # when a release moved it last; empty where none did

    @property
    def marks_run(self) -> str:
        """The run that the last release noted, which somebody may have moved the address away from; empty without."""
        return self.marks[RUN] or ""

    def moved_within(self, seconds: float) -> bool:
        """Whether it is as a release left it, not longer ago than this."""
        if not self.since or self.marks_run != self.run_id:
            return False
        return datetime.now(UTC) - datetime.fromisoformat(self.since) < timedelta(seconds=seconds)


def read_name(name: str) -> tuple[str, str]:
    """Namespace and name of ``NAMESPACE/NAME``.

    Raises:
        ReleaseError: where it is of another form.
    """
    namespace, _, service = name.partition("/")
    if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(service)):
        raise ReleaseError(f"--service {name}: is not of the form NAMESPACE/NAME, as prometheus-mini/prometheus-mini")
    return namespace, service


class Service:
    """An InferenceService."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self._path = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def model_name(self) -> str:
        """What its pods call the model: the service's name, and a canary as the service that it is tried for."""
        return self.name.removesuffix(CANARY)

    def resource(self) -> Json:
        """As the API server has it.

        Raises:
            ReleaseError: where there is none, or it has no model, whose storageUri a release moves.
        """
        try:
            found = self.cluster.get(self._path)
        except ClusterError as error:
            if error.status != NOT_FOUND:
                raise
            canary = self.name.endswith(CANARY)
            cure = "`kubectl apply -f k8s/canary/inferenceservice.yaml`" if canary else "`kubectl apply -f k8s/`"
            raise ReleaseError(
                f"there is no InferenceService {self.name} in namespace {self.namespace}; {cure} makes one"
            ) from None
        if not found["spec"].get("predictor", {}).get("model"):
            raise ReleaseError(
                f"the InferenceService {self} has no spec.predictor.model, which a release gives a bundle"
            )
        return found

    def pointer(self) -> Pointer:
        """Where it points now."""
        found = self.resource()
        metadata = found["metadata"]
        times = [each["time"] for each in metadata.get("managedFields") or () if each.get("manager") == PATCHED_BY]
        return _pointer(
            found["spec"]["predictor"]["model"].get("storageUri", ""),
            metadata.get("annotations") or {},
            metadata["resourceVersion"],
            max(times, default=""),
        )

    def live(self, now: Pointer) -> Pointer | None:
        """Where it pointed when the pods were made that serve at this moment; None where none does.

        That is another place than ``now`` while a release is under way, or where nobody took a failed one back.
        """
        if complete(self.deployment(), now.address):
            return now
        serving = [pod for pod in self.pods() if pod.ready and not pod.leaving and pod.address]
        return _pointer(serving[0].address, serving[0].annotations, now.version, "") if serving else None

    def move(self, now: Pointer, address: str, run_id: str, before: tuple[str, ...]) -> None:
        """Point at another address, unless somebody else has moved the pointer since ``now`` was read.

        Raises:
            ReleaseError: where somebody has.
        """
        self._patch(address, {RUN: run_id or None, BEFORE: json.dumps(before[-KEPT:]) if before else None}, now)

    def restore(self, past: Pointer) -> None:
        """Point where ``past`` did, with its marks."""
        self._patch(past.address, past.marks, self.pointer())

    def deployment(self) -> Json:
        """The predictor's Deployment; empty before KServe has made it."""
        try:
            return self.cluster.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}-predictor")
        except ClusterError as error:
            if error.status == NOT_FOUND:
                return {}
            raise

    def pods(self) -> list[Pod]:
        """The predictor's pods of every version, the oldest first."""
        query = {"labelSelector": f"app=isvc.{self.name}-predictor"}
        found = self.cluster.get(f"/api/v1/namespaces/{self.namespace}/pods", query)["items"]
        # A list's items come without a namespace where nobody asked for one.
        for each in found:
            each["metadata"].setdefault("namespace", self.namespace)
        return [Pod(each) for each in sorted(found, key=lambda each: each["metadata"].get("creationTimestamp", ""))]

    def _patch(self, address: str, marks: dict[str, str | None], seen: Pointer) -> None:
        """Change what is as it was ``seen``. A resource has a new version with every change of its status, too, of
        which there are many while pods crash: those are no one else's doing, and the patch is made anew.
        """
        for _ in range(TRIES):
            body = {
                "metadata": {"resourceVersion": seen.version, "annotations": marks},
                "spec": {"predictor": {"model": {"storageUri": address or None}}},
            }
            try:
                self.cluster.patch(self._path, body)
                return
            except ClusterError as error:
                if error.status != CONFLICT:
                    raise
            now = self.pointer()
            if (now.address, now.marks) != (seen.address, seen.marks):
                break
            seen = now
        raise ReleaseError(
            f"somebody else is changing {self} at this moment; look with `python -m release status`, and try again"
        )


def _pointer(address: str, annotations: Json, version: str, since: str) -> Pointer:
    parts = split(address)
    try:
        before = tuple(map(str, json.loads(annotations.get(BEFORE) or "[]")))
    except ValueError:
        before = ()
    marks = {key: annotations.get(key) for key in (RUN, BEFORE)}
    return Pointer(address, parts[1] if parts else "", before, marks, version, since)


def complete(deployment: Json, address: str) -> bool:
    """Whether the Deployment and all its pods are of this address: none of before is left, and each is available."""
    if not deployment:
        return False
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    template = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return (
        template.get(SOURCE) == address
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and wanted > 0
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) >= wanted
    )


def refusals(deployment: Json) -> str:
    """Why no pod can be made at all, as the Deployment says: a quota, an admission webhook; empty where one can."""
    failed = [each for each in deployment.get("status", {}).get("conditions") or () if each["type"] == "ReplicaFailure"]
    return "; ".join(each.get("message", "") for each in failed if each["status"] == "True")
