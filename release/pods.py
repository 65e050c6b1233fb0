"""What a predictor's pods say of themselves: which run they serve, and why they do not.

KServe's own conditions are not asked: its InferenceService is Ready and UpToDate while the pods of a new version crash,
because the old ones still answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from release.cluster import Cluster, ClusterError, Json

SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe's note of the address, on every pod
# What does not pass by itself. Other reasons to wait, such as ContainerCreating, do.
HOPELESS = {
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
}
HOPELESS |= {"RunContainerError", "CreateContainerError"}
CRASHES = 2  # of one container; once may be the store's bad moment, and twice is no accident
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Pod:
    """A pod of a predictor as the API server has it."""

    data: Json

    @property
    def name(self) -> str:
        """Its name."""
        return self.data["metadata"]["name"]

    @property
    def address(self) -> str:
        """The bundle that it was made for."""
        return self.annotations.get(SOURCE, "")

    @property
    def annotations(self) -> Json:
        """KServe's, and those of the InferenceService at the time when it was made."""
        return self.data["metadata"].get("annotations") or {}

    @property
    def ready(self) -> bool:
        """Whether it takes traffic."""
        return any(each["type"] == "Ready" and each["status"] == "True" for each in self._status("conditions"))

    @property
    def leaving(self) -> bool:
        """Whether it has been told to go."""
        return "deletionTimestamp" in self.data["metadata"]

    @property
    def started(self) -> str:
        """When, in UTC; empty before that."""
        return self.data["status"].get("startTime", "")

    def trouble(self) -> tuple[str, str] | None:
        """The container that will not come up, and why; None where there is still hope."""
        for each in [*self._status("initContainerStatuses"), *self._status("containerStatuses")]:
            waiting = each.get("state", {}).get("waiting") or {}
            ended = each.get("lastState", {}).get("terminated") or each.get("state", {}).get("terminated") or {}
            crashed = ended.get("exitCode", 0) != 0
            if crashed and each.get("restartCount", 0) >= CRASHES:
                how = f"status {ended['exitCode']}"
                if ended.get("reason") not in (None, "", "Error"):
                    how = f"{ended['reason']}, {how}"
                return each["name"], f"ended {each['restartCount'] + 1} times, the last time by {how}"
            # A container that has just crashed once backs off too; it gets its second try.
            if waiting.get("reason") in HOPELESS and not (crashed and waiting["reason"] == "CrashLoopBackOff"):
                return each["name"], f"{waiting['reason']}: {waiting.get('message', 'no more is said')}"
        return None

    def state(self) -> str:
        """A few words on how far it is."""
        if self.leaving:
            return "leaving"
        if self.ready:
            return "ready"
        for each in [*self._status("initContainerStatuses"), *self._status("containerStatuses")]:
            if waiting := each.get("state", {}).get("waiting"):
                return f"{each['name']}: {waiting.get('reason', 'waiting')}"
        for each in self._status("conditions"):
            if each["type"] == "PodScheduled" and each["status"] != "True":
                return f"{each.get('reason', 'not scheduled')}: {each.get('message', '')}"
        return f"{self.data['status'].get('phase', 'Unknown')}, not ready"

    def _status(self, name: str) -> list[Any]:
        return self.data.get("status", {}).get(name) or []


def last_words(cluster: Cluster, pod: Pod, container: str) -> str:
    """The end of a container's log: of the try before, where there was one, else of this one."""
    lines = cluster.log(pod.data, container, True) or cluster.log(pod.data, container, False)
    errors = [line for line in lines if line.startswith(("error: ", "  ")) or "Error" in line]
    return "\n".join(line[:400] for line in (errors or lines)[-5:])


def identity(cluster: Cluster, pod: Pod) -> Json:
    """``{run_id, code_version, sha256, ...}`` of the bundle that a pod really serves; empty where it cannot say.

    From /info, and where that demands a token that is not known here, from its open metrics.

    Raises:
        ClusterError: where it does not answer.
    """
    try:
        return json.loads(cluster.ask(pod.data, "GET", "/info")).get("bundle") or {}
    except ClusterError as error:
        if error.status not in (401, 403):
            raise
    for line in cluster.ask(pod.data, "GET", "/metrics").decode("utf-8", "replace").splitlines():
        if line.startswith("slm_bundle_info{"):
            return dict(_LABEL.findall(line))
    return {}
