"""The pipeline, once, for sub-processes, containers and a Kubeflow cluster.

Settings are parameters: a profile's sections as plain data, so that one compiled pipeline runs every profile. What only
a cluster understands (GPU, tolerations, timeouts, shared memory, secrets, retries) is stated unconditionally; the local
runner ignores it. Every step takes the code's version, because Kubeflow's cache cannot see inside the image.

    python -m pipelines.compile           # writes build/pipeline.yaml
"""

from kfp import dsl, kubernetes

from components.evaluate.component import evaluate
from components.export_onnx.component import export_onnx
from components.gate.component import gate as judge
from components.prepare_data.component import prepare_data
from components.publish.component import publish
from components.quantize.component import quantize
from components.train_model.component import train_model
from components.train_tokenizer.component import train_tokenizer
from evaluation.results import NONE
from model.config import Profile, to_dict
from model.environment import NO_TELEMETRY

NAME = "prometheus-mini"
VARIANTS = ("fp32", "fp16", "int8")
DEFAULTS = to_dict(Profile())
# The demo's text, where a run is given none: it lies in the image, whose working directory is the checkout.
DEFAULTS["corpus"]["sources"] = ["pipelines/profiles/demo.jsonl.zst"]
GPU = "nvidia.com/gpu"

# Secrets are optional: a cluster without them still starts the pods, and the step says what it lacks.
SECRETS = {
    "prometheus-storage": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"),
    "prometheus-tracking": ("CLEARML_API_HOST", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"),
    "prometheus-hub": ("HF_TOKEN",),
}


def _placed(task: dsl.PipelineTask, *secrets: str, hours: int, cpu: str, memory: str) -> dsl.PipelineTask:
    """What a step asks of a cluster: a share of a node, a time limit, a second attempt, secrets, to report nothing."""
    for secret in secrets:
        kubernetes.use_secret_as_env(task, secret, {name: name for name in SECRETS[secret]}, optional=True)
    for name, value in NO_TELEMETRY.items():
        task.set_env_variable(name, value)
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
    task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2)
    kubernetes.set_timeout(task, hours * 3600)
    return task


@dsl.pipeline(name=NAME, description="Text in, a gated and servable small language model out.")
def pipeline(
    publish_to: str,
    sources: list = [],  # noqa: B006 - Kubeflow reads the default from the signature
    tests: list = [],  # noqa: B006
    corpus: dict = DEFAULTS["corpus"],
    tokenizer: dict = DEFAULTS["tokenizer"],
    network: dict = DEFAULTS["network"],
    training: dict = DEFAULTS["training"],
    quantization: dict = DEFAULTS["quantization"],
    evaluation: dict = DEFAULTS["evaluation"],
    gate: dict = DEFAULTS["gate"],
    machine: str = "cpu",
    run_id: str = "",
    code_version: str = "unknown",
    gpu_node_selector: dict = {"nvidia.com/gpu.present": "true"},  # noqa: B006
    gpu_tolerations: list = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],  # noqa: B006
):
    """From text to a published bundle.

    Args:
        publish_to: Directory or s3:// address of the published bundle.
        sources: Files or addresses of text; empty for those that section corpus names.
        tests: Test files, each a test set of its own.
        corpus: The profile's section of this name, as the six that follow.
        tokenizer: The profile's section.
        network: The profile's section.
        training: The profile's section.
        quantization: The profile's section.
        evaluation: The profile's section.
        gate: The profile's section.
        machine: cpu or gpu: what the published bundle will be served on.
        run_id: Name of the run, kept in the bundle's provenance.
        code_version: Version of the code, part of every step's cache key.
        gpu_node_selector: Labels of the nodes that train.
        gpu_tolerations: Tolerations of the training pod.
    """
    prepared = prepare_data(sources=sources, tests=tests, config=corpus, code_version=code_version)
    _placed(prepared, "prometheus-storage", "prometheus-hub", hours=12, cpu="2", memory="8Gi")
    text = prepared.outputs["corpus"]

    cut = train_tokenizer(corpus=text, config=tokenizer, code_version=code_version)
    _placed(cut, hours=4, cpu="4", memory="16Gi")

    trained = train_model(
        corpus=text, tokenizer=cut.outputs["tokenizer"], network=network, config=training, code_version=code_version
    )
    _placed(trained, "prometheus-tracking", hours=72, cpu="4", memory="32Gi")
    trained.set_accelerator_type(GPU).set_accelerator_limit(1)
    kubernetes.add_node_selector_json(trained, gpu_node_selector)
    kubernetes.add_toleration_json(trained, gpu_tolerations)
    kubernetes.empty_dir_mount(trained, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="4Gi")

    exported = export_onnx(
        checkpoint=trained.outputs["checkpoint"], tokenizer=cut.outputs["tokenizer"], code_version=code_version
    )
    _placed(exported, hours=1, cpu="2", memory="8Gi")

    bundles = {"fp32": exported.outputs["bundle"]}
    for precision in VARIANTS[1:]:
        smaller = quantize(
            bundle=bundles["fp32"], corpus=text, precision=precision, config=quantization, code_version=code_version
        )
        _placed(smaller, hours=1, cpu="2", memory="8Gi").set_display_name(f"quantize {precision}")
        bundles[precision] = smaller.outputs["quantized"]

    evaluations = {}
    for variant in VARIANTS:
        measured = evaluate(
            bundle=bundles[variant], corpus=text, variant=variant, config=evaluation, code_version=code_version
        )
        _placed(measured, hours=6, cpu="4", memory="8Gi").set_display_name(f"evaluate {variant}")
        evaluations[variant] = measured.outputs["evaluation"]

    judged = judge(**evaluations, config=gate, machine=machine, code_version=code_version)
    _placed(judged, hours=1, cpu="1", memory="2Gi")

    with dsl.If(judged.outputs["Output"] != NONE, name="gate-passed"):
        published = publish(
            **bundles,
            verdict=judged.outputs["verdict"],
            variant=judged.outputs["Output"],
            target=publish_to,
            run_id=run_id,
            code_version=code_version,
        )
        # A cached publication would leave the target as it is, which need not be what this run measured.
        _placed(published, "prometheus-storage", hours=1, cpu="1", memory="4Gi").set_caching_options(False)
