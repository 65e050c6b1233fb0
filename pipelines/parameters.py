"""The pipeline's parameters, from a profile and what a run is asked for."""

from collections.abc import Sequence
from typing import Any

from model.config import Profile, to_dict

TRANSLATING = ("beams", "keep_original")  # of section distillation, what the step of this name is given
SECTIONS = ("corpus", "tokenizer", "network", "training", "quantization", "evaluation", "gate")


def parameters(
    profile: Profile,
    code_version: str,
    *,
    publish_to: str = "",
    release_to: str = "",
    checkpoint_uri: str = "",
    run_id: str = "",
    machine: str = "",
    sources: Sequence[str] = (),
    tests: Sequence[str] = (),
    init_from: str = "",
) -> dict[str, Any]:
    """All of them by name, fit for a local run, for the defaults of a compiled pipeline, and for a run of it.

    Args:
        profile: Its sections, and what it asks of a cluster.
        code_version: Version of the code.
        publish_to: The model store.
        release_to: The InferenceService to be served from, namespace/name; empty for none.
        checkpoint_uri: Where training keeps its state; empty for nowhere.
        run_id: Name of the run; empty for the one that Kubeflow gives.
        machine: "cpu" or "gpu": what the bundle will be served on; empty for what the profile says.
        sources: Files or addresses of text; empty for the profile's own.
        tests: Test files.
        init_from: Weights to begin with; empty for random ones.
    """
    resources = profile.resources
    machine = machine or resources.machine
    distillation = to_dict(profile.distillation)
    return {
        **{section: to_dict(getattr(profile, section)) for section in SECTIONS},
        "publish_to": publish_to,
        "release_to": release_to,
        "checkpoint_uri": checkpoint_uri,
        "run_id": run_id,
        "code_version": code_version,
        "sources": [*sources],
        "tests": [*tests],
        "init_from": init_from,
        "teacher": teacher(profile),
        "distillation": {name: distillation[name] for name in TRANSLATING},
        "machine": machine,
        "cpu": resources.cpu,
        "memory": resources.memory,
        "train_cpu": resources.train_cpu,
        "train_memory": resources.train_memory,
        # Kubernetes takes quantities as text.
        "train_gpus": str(resources.gpus),
        "fp16_gpus": "1" if machine == "gpu" else "0",
        "node_selector": resources.node_selector,
        "tolerations": resources.tolerations,
    }


def teacher(profile: Profile) -> dict[str, Any]:
    """What the steps are told of a teacher, apart from how it translates: a cached teacher may translate otherwise."""
    asked = profile.distillation
    if asked.teacher:
        return {"bundle": asked.teacher}
    if asked.teacher_steps:
        return {"network": to_dict(profile.teacher_network), "training": to_dict(profile.teacher_training)}
    return {}
