"""Step 7, only when a service is named: what was published is put in place, and taken back where it is no good."""

from components.image import component


@component
def release(service: str, store: str, run_id: str, address: str, code: str, prometheus: str = "") -> str:
    """Point an InferenceService at a published bundle, wait for its pods' own word, ask and watch them; or go back.

    Args:
        service: The InferenceService, namespace/name.
        store: The model store.
        run_id: The run to be served.
        address: Where its bundle lies, as publish said.
        code: Hash of the step's code.
        prometheus: Address of a Prometheus server that has the pods' metrics; empty: errors and latency go unwatched.

    Returns:
        Output: Address of what the service serves now.
    """
    from components.step import step

    with step("release", code):
        from release.step import put_in_place

        live = put_in_place(service, store, run_id, address, prometheus)
    return live
