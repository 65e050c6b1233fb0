"""Step 0, in every run: what would only be missed hours later is tried now, and what the text is, is written down."""

from typing import NamedTuple

from components.image import component


@component
def preflight(
    sources: list,
    tests: list,
    config: dict,
    store: str,
    run_id: str,
    job: str,
    machine: str,
    init_from: str,
    network: dict,
    teacher: dict,
    taught_by: str,
    distillation: dict,
    code: str,
) -> NamedTuple("Outputs", [("stamp", str), ("run_id", str), ("origin", str), ("teacher", str)]):  # type: ignore[valid-type]
    """Write a probe to the store, and look at every source and at the weights to begin with.

    Args:
        sources: Files or addresses of text; empty for config's own.
        tests: Test files.
        config: The profile's corpus section (model.config.CorpusConfig).
        store: Where the run will publish: a folder, s3://bucket/prefix or pvc://claim/prefix.
        run_id: Name of the run; empty for the job's.
        job: Kubeflow's own name of the run.
        machine: cpu or gpu: what the published bundle will be served on.
        init_from: Training folder, or address of one, with weights to begin with; empty: random ones.
        network: The profile's network section (model.config.NetworkConfig), which they have to fit.
        teacher: A bundle that is to teach, or the network and the training of one; empty: none.
        taught_by: The kind of teacher that the pipeline was compiled for: given, trained or none.
        distillation: The profile's distillation section (model.config.DistillationConfig).
        code: Hash of the step's code.

    Returns:
        stamp: Hash of every source's size and content; part of prepare-data's cache key, so that changed text is read.
        run_id: The name under which the run publishes.
        origin: Hash and place of the weights to begin with; part of the cache keys of what uses them.
        teacher: Hash and place of a bundle that is given to teach; part of the cache key of what it translates.
    """
    from components.step import step

    with step("preflight", code):
        from evaluation.teacher import stamped as found
        from model.config import CorpusConfig, DistillationConfig, NetworkConfig, from_dict
        from model.corpus.stamp import stamp
        from model.store import probe
        from model.training.origin import stamped

        name, text, how = run_id or job, from_dict(CorpusConfig, config), from_dict(DistillationConfig, distillation)
        print(f"run {name} publishes to {store}, for a {machine} machine", flush=True)
        probe(store)
        begun = stamped(init_from, from_dict(NetworkConfig, network)), found(teacher, taught_by, text, how)
        return stamp(sources, tests, text), name, *begun
