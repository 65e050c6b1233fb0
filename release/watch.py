"""Errors and latency of a version, as a Prometheus server has them: held against the version before.

Every metric of a predictor is told apart by run through ``slm_bundle_info``, which each pod exports. The new pods'
counters began with them, so their sums are the release's own.
"""

import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlencode

from model.errors import ProjectError, reason

# What is the server's fault, not its caller's (serving/errors.py).
FAULTS = "InternalError|EngineFailed|DeadlineExceeded"
MOST_FAULTS = 0.01  # share of requests; twice the share of before where that is more
SLOWER, SLACK = 2.0, 0.1  # times the latency of before, and seconds beside that
WINDOW = "10m"  # of the version before


class WatchError(ProjectError):
    """Prometheus does not answer, or not as one."""


@dataclass(frozen=True)
class Seen:
    """What Prometheus has of one run; seconds are the 95th percentile of a whole request, None where nobody asked."""

    pods: int
    requests: float
    faults: float
    seconds: float | None

    @property
    def share(self) -> float:
        """Share of requests that failed by the server's fault."""
        return self.faults / (self.requests + self.faults) if self.requests + self.faults else 0.0

    def __str__(self) -> str:
        latency = "" if self.seconds is None else f", 95 % within {self.seconds:.3f} s"
        return f"{self.requests:.0f} requests, {self.faults:.0f} failed{latency}"


class Prometheus:
    """A Prometheus server by its address."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def value(self, query: str) -> float | None:
        """The one number that a query gives; None where it gives none.

        Raises:
            WatchError: where it cannot be had.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{urlencode({'query': query})}", timeout=15) as answer:
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise WatchError(
                f"Prometheus at {self.url}: {error.code} {error.read(300).decode('utf-8', 'replace')}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WatchError(f"Prometheus at {self.url} does not answer as one: {reason(error)}") from None
        found = float(result[0]["value"][1]) if result else math.nan
        return found if math.isfinite(found) else None

    def seen(self, run_id: str, model_name: str, window: str = "") -> Seen:
        """A run's figures: since its pods began, or in the last ``window``."""
        # The label in braces is quoted as JSON is, which PromQL reads.
        which = f"slm_bundle_info{{run_id={json.dumps(run_id)},model_name={json.dumps(model_name)}}}"
        pods = f"max by (instance) ({which})"

        def total(metric: str, matcher: str = "", by: str = "") -> str:
            series = f"{metric}{{{matcher}}}"
            series = f"increase({series}[{window}])" if window else series
            return f"sum{by}({series} * on (instance) group_left() {pods})"

        faults = f'reason=~"{FAULTS}"'
        quantile = f"histogram_quantile(0.95, {total('slm_e2e_request_latency_seconds_bucket', by=' by (le) ')})"
        return Seen(
            int(self.value(f"count({pods})") or 0),
            self.value(total("slm_request_success_total")) or 0.0,
            self.value(total("slm_request_rejected_total", faults)) or 0.0,
            self.value(quantile),
        )


def judge(now: Seen, before: Seen | None) -> str:
    """Why the new version is worse than is allowed; empty where it is not."""
    most = max(MOST_FAULTS, 2 * before.share if before else 0.0)
    if now.share > most:
        return f"{now.share:.1%} of its requests failed, {most:.1%} are allowed"
    slowest = SLOWER * before.seconds + SLACK if before and before.seconds is not None else math.inf
    if now.seconds is not None and now.seconds > slowest:
        return f"95 % of its requests took up to {now.seconds:.3f} s; with the one before, {slowest:.3f} s are allowed"
    return ""
