"""Running the pipeline in containers of this machine, one for each step, through Kubeflow's DockerRunner.

A step sees its image, the run's folder, and what it is given to read, read-only and under the names that this machine
knows it by. It runs as the caller, without capabilities. The network and the credentials are for the steps that the
pipeline declares them for (pipelines/pipeline.py, secrets), and only where an address of the run needs them.
"""

import codecs
import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import docker
from docker.types import DeviceRequest, LogConfig
from google.protobuf import json_format
from kfp import local
from kfp.dsl.base_component import BaseComponent
from kfp.local import docker_task_handler
from kfp.local.status import Status

from components.step import STEPS_VARIABLE
from model.environment import NO_TELEMETRY
from model.training.tracking import chosen
from pipelines.engine import EngineError, Image, binds, connect, find_image, pull, remove, started
from pipelines.folder import runner_was_killed
from pipelines.images import HERE, tag
from pipelines.local import MAIN, handed_over, install, pass_on, run_by
from pipelines.pipeline import define
from pipelines.provenance import code_version
from pipelines.reuse import run_once

LABEL = "prometheus-mini.run"  # on every container of a run: the run's folder
SHM = "1g"  # PyTorch shares tensors between processes there; engines give 64 MB
# What is needed of the outside, and the variables that open it.
STORAGE, HUB, CLEARML, MLFLOW, ANY = "AWS_", "HF_", "CLEARML_", "MLFLOW_", "PROMETHEUS_NETWORK"
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
HANDED_ON = (*NO_TELEMETRY, "PROMETHEUS_TRACKING", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# A folder that covers one of these would take the place of what the image needs.
OWN_OF_AN_IMAGE = ("/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/sbin", "/sys", "/tmp", "/usr")


class Containers:
    """The image that the steps will run in, and what it is: asked of a container before anything starts.

    Attributes:
        variant: cpu or gpu.
        image: Name of the image.
        versions: Of Python and the libraries in it.
        hardware: The machine as a container of it sees it.
        notes: What is to be said before the run starts.
    """

    def __init__(self, variant: str) -> None:
        """Find the image and ask it.

        Args:
            variant: cpu or gpu: which image, and whether the GPUs of this machine are handed on.

        Raises:
            EngineError: where no engine answers, it has no such image, or the image cannot run the steps.
        """
        self.variant, self.client = variant, connect()
        options = self.client.info().get("SecurityOptions") or []
        # Without root the engine's root is the caller, and other numbers are somebody else's.
        rootless = any("name=rootless" in option for option in options)
        self.options: dict[str, Any] = {
            "user": "0:0" if rootless else f"{os.getuid()}:{os.getgid()}",
            "cap_drop": ["ALL"],
            # For SELinux the caller's own files would have to be labelled anew.
            "security_opt": ["no-new-privileges", *(["label=disable"] if "name=selinux" in options else [])],
            "shm_size": SHM,
            "log_config": LogConfig(type="json-file"),  # which can be read; a machine's default may be another
        }
        self.image = _steps_image(self.client, variant)
        self.notes = [f"in containers of {self.image.name}"]
        if variant == "gpu":
            if any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")):
                self.options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
            else:
                self.notes.append("VARIANT=gpu, and this machine has no NVIDIA GPU: the steps run on its processor")
        remove(self.client, LABEL, lambda run_dir: runner_was_killed(Path(run_dir)))
        self.versions, self.hardware = self._ask()

    def _ask(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Versions and hardware, as a container sees them."""
        command = ["python3", "-m", "pipelines.provenance"]
        options = {**self.options, "network_mode": "none", "environment": {"HOME": "/tmp", **NO_TELEMETRY}}
        with started(self.client, self.image, entrypoint=command, **options) as container:
            status = container.wait()["StatusCode"]
            out, err = (container.logs(stdout=out, stderr=not out).decode("utf-8", "replace") for out in (True, False))
        try:
            found = json.loads(out)
            code, own = found["code_version"], code_version()
        except (ValueError, KeyError):
            last = (err.strip() or out.strip()).rpartition("\n")[2]
            raise EngineError(
                f"the image {self.image.name} cannot run the steps: `{' '.join(command)}` ends in it with status "
                f"{status}, {last!r}; `make images` builds one that can"
            ) from None
        if code.rpartition("-")[2] != own.rpartition("-")[2]:
            self.notes.append(f"the image holds code {code}, this is {own}: a step that differs refuses to run")
        return found["versions"], found["hardware"]

    def run(self, arguments: Mapping[str, Any], run_dir: Path, steps: Path) -> None:
        """Run every step in a container of its own, as pipelines.local.run_locally does in processes.

        Raises:
            EngineError: where something to be read or written cannot be handed to a container.
            RuntimeError: where a step failed; which one and why is in ``steps``.
            KeyboardInterrupt: after the running container has been removed.
        """
        run_dir = run_dir.absolute()
        arguments, read, written = located(arguments)
        for path in read:
            if any(Path(own).is_relative_to(path) for own in (*OWN_OF_AN_IMAGE, self.image.folder)):
                raise EngineError(f"{path}: an image has a folder of this name for itself; give a folder inside it")
        environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        environment |= {"HOME": "/tmp", "USER": "prometheus", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        environment[STEPS_VARIABLE] = str(steps.absolute())
        text = arguments["sources"] or arguments["corpus"]["sources"]
        begun = (arguments["init_from"], arguments["teacher"].get("bundle", ""))
        if needed := needs([*text, *arguments["tests"], *begun], written):
            for name in CERTIFICATES:
                if Path(file := os.environ.get(name, "")).is_file():
                    environment[name] = os.path.abspath(file)
                    read.append(os.path.abspath(file))
        pipeline = define(arguments)
        open_to_steps(pipeline, needed)
        if "://" not in written:
            Path(written).mkdir(parents=True, exist_ok=True)
        rooms = {str(run_dir): False, **({} if "://" in written else {written: False})}
        mounts = {**dict.fromkeys(read, True), **rooms}
        runner = local.DockerRunner(**self.options, environment=environment, labels={LABEL: str(run_dir)})
        runner.container_run_args.update(binds(mounts))  # which its maker keeps for itself
        install(sys.stdout)
        StepContainer.terminal, StepContainer.steps_image = sys.stdout, self.image
        docker_task_handler.DockerTaskHandler = StepContainer
        try:
            run_by(runner, pipeline, arguments, run_dir)
        finally:
            remove(self.client, f"{LABEL}={run_dir}")


class StepContainer(docker_task_handler.DockerTaskHandler):
    """Runs a lightweight component's function in a container of the image."""

    terminal: TextIO = sys.stdout
    steps_image: Image

    def run(self) -> Status:
        """Run the step, unless what it made before can be used again."""
        return run_once(self.full_command, self.pipeline_root, self.terminal, self._run)

    def _run(self) -> Status:
        """Wait for the step; what it prints is passed on as it comes."""
        environment = dict(self.env_vars)
        network = "host" if environment.pop(ANY, "") else "none"  # host: a store may be at 127.0.0.1
        with (
            handed_over(self.full_command, self.pipeline_root) as handed,
            contextlib.closing(connect()) as client,
        ):
            command = {"entrypoint": ["python3", "-c", MAIN], "command": [str(handed)]}
            options = {**self.runner.container_run_args, **command, "environment": environment}
            with started(client, self.steps_image, network_mode=network, **options) as container:
                pass_on(lines(container.logs(stream=True, follow=True)), self.terminal)
                status = container.wait()["StatusCode"]
        return Status.SUCCESS if status == 0 else Status.FAILURE


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of text, each with its end, of bytes that come in pieces of any length."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decode(chunk)).split("\n")
        yield from (f"{line}\n" for line in whole)
    if rest := rest + decode(b"", final=True):
        yield f"{rest}\n"


def located(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], str]:
    """The pipeline's parameters, the whole paths of what is read, and where is written to.

    Names below the working directory stay as they are: a step goes to the place of the same name before it begins.
    """
    read: list[str] = []

    def found(source: str) -> str:
        if "://" in source and not source.startswith("file://"):
            return source
        read.append(path := os.path.abspath(source.removeprefix("file://")))
        return source if Path(path).is_relative_to(os.getcwd()) else path

    given: dict[str, Any] = {name: [*map(found, arguments[name])] for name in ("sources", "tests")}
    if begun := arguments["init_from"]:
        given["init_from"] = found(begun)
    if bundle := arguments["teacher"].get("bundle"):
        given["teacher"] = {"bundle": found(bundle)}
    corpus, store = arguments["corpus"], arguments["publish_to"]
    if not given["sources"]:  # else the profile's own text is not read
        corpus = {**corpus, "sources": [*map(found, corpus["sources"])]}
    arguments = {**arguments, **given, "corpus": corpus}
    if "://" in store and not store.startswith("file://"):
        return arguments, read, store
    path = os.path.abspath(store.removeprefix("file://"))
    store = store if Path(path).is_relative_to(os.getcwd()) else path
    return {**arguments, "publish_to": store}, read, path


def needs(sources: Iterable[str], store: str) -> set[str]:
    """What of the outside a run needs: prefixes of the variables that open it, and ANY for an address without keys."""
    kinds = {address.partition("://")[0] for address in (*sources, store) if "://" in address}
    known = {"s3": STORAGE, "s3a": STORAGE, "hf": HUB}
    needed = {known.get(kind, ANY) for kind in kinds}
    trackers = chosen()
    if "clearml" in trackers and (os.environ.get("CLEARML_API_HOST") or os.environ.get("CLEARML_API_ACCESS_KEY")):
        needed.add(CLEARML)
    if "mlflow" in trackers and os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://")):
        needed.add(MLFLOW)
    return needed


def open_to_steps(pipeline: BaseComponent, needed: set[str]) -> None:
    """Give each step of a pipeline the network and the credentials that it declares, of those that are needed."""
    declared = pipeline.platform_spec.platforms["kubernetes"].deployment_spec.executors
    executors = pipeline.pipeline_spec.deployment_spec["executors"]
    for label, settings in declared.items():
        secrets = json_format.MessageToDict(settings).get("secretAsEnv", [])
        names = {pair["envVar"] for secret in secrets for pair in secret["keyToEnv"]}
        # What reads the sources may come from the hub; an address of another kind needs no key, but the network.
        opened = {need for need in needed for name in names if name.startswith(HUB if need == ANY else need)}
        values = {name: value for name, value in os.environ.items() if name.startswith(tuple(opened))}
        if opened:
            ways = {name: value for name, value in os.environ.items() if name.upper() in PROXIES}
            values = {**values, **ways, ANY: "1"}
        container = executors[label]["container"]
        kept = [pair for pair in container["env"] if pair["name"] not in values]
        container["env"] = [*kept, *({"name": name, "value": value} for name, value in values.items())]


def _steps_image(client: docker.DockerClient, variant: str) -> Image:
    """The image that $PROMETHEUS_IMAGE names, or else the one of this code.

    Raises:
        EngineError: where the engine has none.
    """
    if named := os.environ.get("PROMETHEUS_IMAGE"):
        return find_image(client, [named]) or pull(client, named)
    name = f"{HERE}/prometheus-mini/pipeline:{tag(variant)}"
    if found := find_image(client, [name]):
        return found
    how = "make images VARIANT=gpu" if variant == "gpu" else "make images"
    raise EngineError(
        f"the container engine has no image of this code, {name}: `{how}` builds it, or PROMETHEUS_IMAGE names another"
    )
