"""The container engine of this machine: Docker, or Podman behind Docker's socket; $DOCKER_HOST says where.

Kubeflow's own way of running a container takes one that is gone before it is asked for its status for a success
(kubeflow/pipelines #13332): here a container is removed only after it has been asked, and whatever happens.
"""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount
from requests.exceptions import RequestException

from model.errors import ProjectError

PATIENCE = 600  # seconds: a busy machine takes more than docker's 60 to make a container


class EngineError(ProjectError, RuntimeError):
    """There is no container engine, or it has no image of the steps, or it refuses a container."""


class Image(NamedTuple):
    """An image of the engine: its name, its id, and the folder that its code lies in."""

    name: str
    id: str
    folder: str


def connect() -> docker.DockerClient:
    """The engine.

    Raises:
        EngineError: where none answers.
    """
    try:
        client = docker.from_env(timeout=PATIENCE)
        client.ping()
    except (DockerException, OSError) as error:
        raise EngineError(
            "RUNNER=docker needs a container engine, and none answers at "
            f"{os.environ.get('DOCKER_HOST') or 'the usual socket'} ({told(error)}): start Docker, or Podman's "
            "`podman system service`, and name its socket by DOCKER_HOST; or leave RUNNER=docker out"
        ) from None
    return client


def binds(mounts: Mapping[str, bool]) -> dict[str, Any]:
    """Options of a container that sees these paths under their own names; a value says whether only to read.

    Engines write a colon into one way of saying so, and Podman commas, quotes and lines into the other. A path that has
    both is seen by the folder that holds it.
    """
    volumes, objects = {}, []
    for seen, read_only in mounts.items():
        path = seen
        while ":" in path and re.search(r'[,"\n]', path):
            path = os.path.dirname(path)
        if ":" in path:
            objects.append(Mount(path, path, type="bind", read_only=read_only))
        else:
            volumes[path] = {"bind": path, "mode": "ro" if read_only else "rw"}
    return {"volumes": volumes, "mounts": objects}


@contextlib.contextmanager
def started(client: docker.DockerClient, image: Image, **options: Any) -> Iterator[Any]:
    """A container that has been started, and is removed afterwards, but not before it has been asked.

    Raises:
        EngineError: in the engine's own words.
    """
    try:
        container = client.containers.create(image.id, **options)
        try:
            container.start()
            yield container
        finally:
            with not_interrupted():
                _end(container)
    except (DockerException, RequestException) as error:
        raise EngineError(f"the container engine: {told(error)}") from error


def remove(client: docker.DockerClient, label: str, gone: Callable[[str], bool] = bool) -> None:
    """Remove the containers with a label, whether they run or not, whose value of it is ``gone``.

    An engine that does not answer any more is no error here: whatever met it first has told of it.
    """
    with not_interrupted(), contextlib.suppress(DockerException, RequestException):
        for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
            if gone(container.labels[label.partition("=")[0]]):
                _end(container)


def _end(container: Any) -> None:
    for end in (container.kill, lambda: container.remove(force=True)):  # by force alone, Podman waits ten seconds
        with contextlib.suppress(APIError, RequestException):
            end()


@contextlib.contextmanager
def not_interrupted() -> Iterator[None]:
    """Leave Ctrl-C and a request to end aside while the body cleans up."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def find_image(client: docker.DockerClient, names: Sequence[str]) -> Image | None:
    """The first of the images that the engine has."""
    for name in names:
        with contextlib.suppress(NotFound):
            return _image(name, client.images.get(name))
    return None


def pull(client: docker.DockerClient, name: str) -> Image:
    """An image that the engine gets from its registry.

    Raises:
        EngineError: where it cannot.
    """
    print(f"pulling {name}", flush=True)
    try:
        tagged = re.search(r"[:@][^/]*$", name)
        return _image(name, client.images.pull(name) if tagged else client.images.pull(name, "latest"))
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"the container engine has no image {name} and cannot get it ({told(error)}); `make images` builds one"
        ) from None


def _image(name: str, found: Any) -> Image:
    return Image(name, found.id, found.attrs["Config"].get("WorkingDir") or "/")


def told(error: Exception) -> str:
    """An engine's error in its own words."""
    text = (error.explanation if isinstance(error, APIError) else "") or str(error) or type(error).__name__
    return text.strip().splitlines()[-1]
