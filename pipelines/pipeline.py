"""The pipeline, once, for sub-processes, containers and a Kubeflow cluster.

Settings are parameters: a profile's sections as plain data, so that one definition runs every profile; what a cluster
is asked for is a parameter each (pipelines/parameters.py). What only a cluster understands (GPU, tolerations, timeouts,
secrets, retries) is stated unconditionally; the local runner ignores it. Every step has the hash of its own code as a
constant, because Kubeflow's cache cannot see inside the image. Compiled in is what decides which steps there are: text
in one shard is prepared by one step, in several by a step for each of them and one that merges them.

On a cluster a step costs two pods and about ten seconds, whatever it does, and each group of steps one pod. So what
always runs together on one input is one step, and what takes long and can run side by side is several.

    python -m pipelines.compile           # writes build/pipeline.yaml
"""

from collections.abc import Mapping
from typing import Any, TypedDict

from kfp import dsl, kubernetes

from components.code import code_of
from components.distil.component import distil
from components.gate.component import gate as judge
from components.image import IMAGE
from components.merge_shards.component import merge_shards
from components.preflight.component import preflight
from components.prepare_data.component import prepare_data
from components.prepare_shard.component import prepare_shard
from components.publish.component import publish
from components.refuse.component import refuse
from components.release.component import release
from components.train_model.component import train_model
from components.train_teacher.component import train_teacher
from components.train_tokenizer.component import train_tokenizer
from components.variant.component import variant
from evaluation.results import NONE
from evaluation.teacher import GIVEN, TRAINED, kind_of
from model.environment import NO_TELEMETRY
from model.files import VOLUMES

NAME = "prometheus-mini"
VARIANTS = ("fp32", "fp16", "int8")
GPU = "nvidia.com/gpu"
LITTLE = {"cpu": "100m", "memory": "1Gi"}  # what steps ask for that neither read text nor run a network
RETRIES = 2
WAITING_HOURS = 24  # that all attempts of a step may wait together, for a node or a GPU to fall free

STORAGE, HUB, TRACKING = "prometheus-mini-storage", "prometheus-mini-hub", "prometheus-mini-tracking"
# Secrets are optional: a cluster without them still starts the pods, and the step says what it lacks.
SECRETS = {
    STORAGE: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"),
    TRACKING: (
        *("CLEARML_API_HOST", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"),
        *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    ),
    HUB: ("HF_TOKEN",),
}


class Share(TypedDict):
    """What a step is promised of a node."""

    cpu: str
    memory: str


def define(
    arguments: Mapping[str, Any] | None = None, images: Mapping[str, str] | None = None, claims: tuple[str, ...] = ()
) -> dsl.base_component.BaseComponent:
    """The pipeline.

    A step that a run does not need costs it pods all the same: those of shards and of distillation are there where the
    parameters ask for them.

    Args:
        arguments: Its parameters (pipelines/parameters.py), of which some are compiled in; without them neither shards
            nor a teacher are.
        images: What its steps run in, by component.
        claims: Volumes that are mounted where the store is used.
    """
    shards = arguments["corpus"].get("shards", 1) if arguments else 1
    taught_by = kind_of(arguments["teacher"] if arguments else {})

    def asked(task: dsl.PipelineTask, *secrets: str, hours: int, cpu: str, memory: str, again: bool = True):
        """What a step asks of a cluster: a share of a node, a time limit, secrets, other attempts, to report nothing.

        Another attempt follows where a step's process fails, whatever the reason. Its waiting must have an end of its
        own: Kubeflow's default is an hour, counted from the first attempt's start, after which nothing is tried again.
        """
        component = str(task.inputs["code"]).rpartition("-")[0]
        task.set_container_image(images[component] if images else IMAGE)
        for secret in secrets:
            kubernetes.use_secret_as_env(task, secret, {name: name for name in SECRETS[secret]}, optional=True)
        for claim in claims if STORAGE in secrets else ():
            kubernetes.mount_pvc(task, claim, f"{VOLUMES}/{claim}")
        for name, value in NO_TELEMETRY.items():
            task.set_env_variable(name, value)
        task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
        kubernetes.set_timeout(task, hours * 3600)
        if again:
            longest = (RETRIES + 1) * hours + WAITING_HOURS
            task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2, backoff_max_duration=f"{longest}h")
        return task

    @dsl.pipeline(name=NAME, description="Text in, a gated and servable small language model out.")
    def pipeline(
        publish_to: str,
        release_to: str,
        checkpoint_uri: str,
        run_id: str,
        code_version: str,
        sources: list,
        tests: list,
        init_from: str,
        teacher: dict,
        distillation: dict,
        corpus: dict,
        tokenizer: dict,
        network: dict,
        training: dict,
        quantization: dict,
        evaluation: dict,
        gate: dict,
        machine: str,
        cpu: str,
        memory: str,
        train_cpu: str,
        train_memory: str,
        train_gpus: str,
        fp16_gpus: str,
        node_selector: dict,
        tolerations: list,
    ):
        """From text to a published bundle, and to the service that answers with it.

        Args:
            publish_to: The model store: a folder, s3://bucket/prefix or pvc://claim/prefix.
            release_to: The InferenceService that is to serve the model, namespace/name; empty for none.
            checkpoint_uri: Where training keeps its state for the attempt after a killed one; empty for nowhere.
            run_id: Name of the run in the store; empty for the job's.
            code_version: Version of the code, kept in the bundle's provenance.
            sources: Files or addresses of text; empty for those that section corpus names.
            tests: Test files, each a test set of its own.
            init_from: Training folder, or address of one, with weights to begin with; empty for random ones.
            teacher: A bundle that is to teach, or the network and the training of one that the run trains. Which of
                the two, or neither, is settled when the pipeline is compiled.
            distillation: How a teacher translates.
            corpus: The profile's section of this name, as the six that follow.
            tokenizer: The profile's section.
            network: The profile's section.
            training: The profile's section.
            quantization: The profile's section.
            evaluation: The profile's section.
            gate: The profile's section.
            machine: cpu or gpu: what the published bundle will be served on.
            cpu: Share of a processor that each step is promised, but for training.
            memory: Memory that each step is promised and held to, but for training.
            train_cpu: Processors that training is promised.
            train_memory: Memory that training is promised and held to.
            train_gpus: GPUs for training.
            fp16_gpus: GPUs for measuring fp16.
            node_selector: Labels of the nodes for training, and for measuring fp16.
            tolerations: Taints that these two bear.
        """
        share: Share = {"cpu": cpu, "memory": memory}
        large: Share = {"cpu": train_cpu, "memory": train_memory}

        checked = preflight(
            sources=sources,
            tests=tests,
            config=corpus,
            store=publish_to,
            run_id=run_id,
            job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
            machine=machine,
            init_from=init_from,
            network=network,
            teacher=teacher,
            taught_by=taught_by,
            distillation=distillation,
            code=code_of("preflight"),
        )
        # What was so an hour ago need not be so now: this is not cached, nor is what changes something out there.
        asked(checked, STORAGE, HUB, hours=1, again=False, **LITTLE).set_caching_options(False)

        given = {"sources": sources, "tests": tests, "config": corpus, "stamp": checked.outputs["stamp"]}
        if not arguments or shards == 1:
            prepared = prepare_data(**given, code=code_of("prepare_data"))
            asked(prepared, STORAGE, HUB, hours=12, **share)
        else:
            with dsl.ParallelFor([*range(shards)], name="shards") as number:
                shard = prepare_shard(**given, number=number, of=shards, code=code_of("prepare_shard"))
                # Kubeflow 2.17 does not hand such parameters on into a loop: they are constants here.
                asked(shard, STORAGE, HUB, hours=12, cpu=arguments["cpu"], memory=arguments["memory"])
            found = dsl.Collected(shard.outputs["shard"])
            prepared = merge_shards(shards=found, config=corpus, code=code_of("merge_shards"))
            asked(prepared, hours=12, **share)
            prepared.set_display_name("prepare-data")
        text = {"corpus": prepared.outputs["corpus"], "holdout": prepared.outputs["holdout"]}

        origin = checked.outputs["origin"]
        cut = train_tokenizer(**text, config=tokenizer, origin=origin, code=code_of("train_tokenizer"))
        asked(cut, STORAGE, hours=4, **share)
        made = {"tokenizer": cut.outputs["tokenizer"]}

        learned, on_a_gpu = {**text}, list[tuple[dsl.PipelineTask, str]]()
        if taught_by in (GIVEN, TRAINED):
            lesson = {"corpus": text["corpus"], "teacher": checked.outputs["teacher"], "config": distillation}
            if taught_by == TRAINED:
                grown = train_teacher(
                    **text,
                    **made,
                    config=teacher,
                    checkpoint_uri=checkpoint_uri,
                    machine=machine,
                    gpus=train_gpus,
                    code=code_of("train_teacher"),
                )
                asked(grown, STORAGE, TRACKING, hours=72, **large)
                on_a_gpu.append((grown, train_gpus))
                lesson["bundle"] = grown.outputs["bundle"]
            translated = distil(**lesson, code=code_of("distil"))
            asked(translated, STORAGE, HUB, hours=72, **large)
            on_a_gpu.append((translated, fp16_gpus))
            learned["corpus"] = translated.outputs["taught"]

        trained = train_model(
            **learned,
            **made,
            network=network,
            config=training,
            checkpoint_uri=checkpoint_uri,
            origin=origin,
            gpus=train_gpus,
            code=code_of("train_model"),
        )
        asked(trained, STORAGE, TRACKING, hours=72, **large)
        on_a_gpu.append((trained, train_gpus))
        made["checkpoint"] = trained.outputs["checkpoint"]

        bundles, evaluations = {}, {}
        for precision in VARIANTS:
            measured = variant(
                **made,
                holdout=text["holdout"],
                precision=precision,
                quantization=quantization,
                config=evaluation,
                code=code_of("variant"),
            )
            asked(measured, hours=6, **share)
            measured.set_display_name(f"variant {precision}")
            bundles[precision], evaluations[precision] = measured.outputs["bundle"], measured.outputs["evaluation"]
            if precision == "fp16":  # what is measured is what will be served, on a GPU where that serves
                on_a_gpu.append((measured, fp16_gpus))
        for task, count in on_a_gpu:
            task.set_accelerator_type(GPU).set_accelerator_limit(count)
            kubernetes.add_node_selector_json(task, node_selector)
            kubernetes.add_toleration_json(task, tolerations)

        judged = judge(
            **evaluations, **made, holdout=text["holdout"], config=gate, machine=machine, code=code_of("gate")
        )
        asked(judged, hours=1, again=False, **LITTLE)

        with dsl.If(judged.outputs["Output"] != NONE, name="gate-passed"):
            published = publish(
                **bundles,
                verdict=judged.outputs["verdict"],
                variant=judged.outputs["Output"],
                store=publish_to,
                run_id=checked.outputs["run_id"],
                code_version=code_version,
                code=code_of("publish"),
            )
            asked(published, STORAGE, hours=1, again=False, **LITTLE).set_caching_options(False)
            with dsl.If(release_to != "", name="to-be-released"):
                released = release(
                    service=release_to,
                    store=publish_to,
                    run_id=checked.outputs["run_id"],
                    address=published.outputs["Output"],
                    code=code_of("release"),
                )
                asked(released, STORAGE, hours=2, again=False, **LITTLE).set_caching_options(False)
        with dsl.Else(name="gate-failed"):
            refused = refuse(verdict=judged.outputs["verdict"], code=code_of("refuse"))
            asked(refused, hours=1, again=False, **LITTLE).set_caching_options(False)

    return pipeline


pipeline = define()
