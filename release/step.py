"""A release as a step of the pipeline: what the run published is put in place, or the step fails and says why."""

from model.errors import ProjectError
from model.store import address as address_of
from release.canary import release_carefully
from release.cluster import Cluster
from release.rollout import Plan
from release.service import Service, read_name


class NotReleased(ProjectError):
    """The service does not serve what was published."""


def put_in_place(service: str, store: str, run_id: str, address: str, prometheus: str = "") -> str:
    """Release a run to a service, by its canary first where one stands; the address that the service has afterwards.

    Args:
        service: namespace/name.
        store: The model store.
        run_id: The run.
        address: Where the run's bundle lies, as who published it says.
        prometheus: Address of a Prometheus server; empty: errors and latency go unwatched.

    Raises:
        NotReleased: where the bundle lies elsewhere, or the version was no good and has been taken back.
        ReleaseError: where there is no such service, or it cannot be released to.
    """
    if address != address_of(store, run_id):
        raise NotReleased(f"publish put the bundle at {address}, which is not where {store} has run {run_id}")
    where, plan = Service(Cluster(), *read_name(service)), Plan(prometheus=prometheus)
    outcome = release_carefully(where, store, run_id, plan, print)
    if not outcome.released:
        raise NotReleased(f"{service} does not serve {run_id}: {outcome.why}")
    print(f"released {run_id} to {service}: {outcome.why}")
    return outcome.live
