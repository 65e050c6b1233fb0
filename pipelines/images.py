"""Build the images of the steps and of the predictor, with Docker or Podman: `make images`.

    python -m pipelines.images --variant gpu --registry registry.example

Both are called by the code's version, localhost/prometheus-mini/pipeline:VERSION and .../predictor:VERSION, and latest,
with -gpu after it where they are for a GPU. Docker and Podman keep such a name as it is; no registry can answer to it
with somebody else's image. Sizes are shown, and what is in each is written to build/NAME-VARIANT.cdx.json.

The steps' image has more tags, one for each step that Kubeflow caches: pipeline:train_model-0c31f48da7 is any image
that holds this code of that step. Kubeflow's cache key has the image's name, which changes with the step and no sooner.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.code import code_of
from evaluation.figures import aligned
from model.errors import ProjectError
from model.files import write_bytes
from model.options import OK, Parser, run
from pipelines.provenance import ROOT, code_version
from pipelines.sbom import QUESTION, bill

DOCKERFILES = {"pipeline": "pipelines/Dockerfile", "predictor": "serving/Dockerfile"}
BASE = "python:3.11-slim"  # as the Dockerfiles have it
# Steps that Kubeflow may leave out.
CACHED = (
    "prepare_data",
    "prepare_shard",
    "merge_shards",
    "train_tokenizer",
    "train_teacher",
    "distil",
    "train_model",
    "variant",
    "gate",
)
HERE = "localhost"  # the registry of images that stay on this machine
MEGABYTE = 1e6  # bytes, as Docker counts them


class ImageError(ProjectError, RuntimeError):
    """There is no container engine, or it could not build an image."""


@dataclass(frozen=True)
class Built:
    """An image that was built.

    Attributes:
        image: What the engine calls it.
        size: Bytes on disk, unpacked.
        base_size: Bytes of them that the base image brought.
        report: What requirements/install.py took.
        sbom: The file that lists its packages.
        others: More names of it, by the code of single steps.
    """

    image: str
    size: int
    base_size: int
    report: dict[str, str]
    sbom: Path
    others: tuple[str, ...] = ()


def engine() -> list[str]:
    """The words that begin a command of the container engine.

    Raises:
        ImageError: where there is neither Docker nor Podman.
    """
    if shutil.which("docker"):
        return ["docker"]
    if shutil.which("podman"):
        host = os.environ.get("DOCKER_HOST")
        return ["podman", "--url", host] if host else ["podman"]
    raise ImageError("neither docker nor podman is on the PATH: install one of them, then run this again")


def tag(variant: str) -> str:
    """The images' tag: the code's version, in the letters that a tag may have."""
    version = re.sub(r"[^\w.-]", "-", code_version(), flags=re.ASCII).lstrip(".-")
    return f"{version}-gpu"[-128:] if variant == "gpu" else version[-128:]


def step_tags(variant: str) -> dict[str, str]:
    """The tag of the steps' image by component: its code's hash where Kubeflow caches it, else the code's version."""
    suffix = "-gpu" if variant == "gpu" else ""
    steps = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
    return {step: f"{code_of(step)}{suffix}" if step in CACHED else tag(variant) for step in steps}


def fill_context(dockerfile: str, folder: Path) -> None:
    """Copy what the Dockerfile's own .dockerignore lets through; builders older than BuildKit do not read that file."""
    lines = (ROOT / f"{dockerfile}.dockerignore").read_text("utf-8").splitlines()
    left_out = [line for line in lines if line and not line.startswith(("!", "#")) and line != "**"]
    for name in (dockerfile, *(line[1:] for line in lines if line.startswith("!"))):
        source = ROOT / name
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            relative = path.relative_to(ROOT)
            hidden = any(part.match(pattern) for part in (relative, *relative.parents) for pattern in left_out)
            if path.is_file() and (not hidden or name == dockerfile):
                target = folder / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)


def build(name: str, variant: str, registry: str = HERE, base: str = "", torch_index: str | None = None) -> Built:
    """Build one image, and ask it what it is made of.

    Args:
        name: pipeline or predictor.
        variant: cpu or gpu.
        registry: The host, and the path there, that goes before the image's name.
        base: The image to build on, if not the Dockerfile's.
        torch_index: Where torch's CPU build is, if not where the Dockerfile says; empty for nowhere.

    Raises:
        ImageError: where the engine fails.
    """
    command, base = engine(), base or BASE
    version = tag(variant)
    image = f"{registry.rstrip('/')}/prometheus-mini/{name}:{version}"
    arguments = {"BASE_IMAGE": base, "VARIANT": variant, "CODE_DESCRIBED": code_version().rpartition("-")[0]}
    if torch_index is not None and name == "pipeline":
        arguments["TORCH_INDEX"] = torch_index
    labels = {"version": version, "base.name": base}
    words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    words += [word for key, value in labels.items() for word in ("--label", f"org.opencontainers.image.{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        fill_context(DOCKERFILES[name], Path(folder))
        file = Path(folder, DOCKERFILES[name])
        if subprocess.run([*command, "build", "-f", str(file), "-t", image, *words, folder], check=False).returncode:
            raise ImageError(f"{command[0]} could not build {image} from {DOCKERFILES[name]} (its words are above)")
    asked = ["run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", QUESTION]
    found = json.loads(_ask(*command, *asked))
    sbom = ROOT / "build" / f"{name}-{variant}.cdx.json"
    identity, size = _ask(*command, "image", "inspect", "--format", "{{.Id}} {{.Size}}", image).split()
    write_bytes(sbom, json.dumps(bill(image, identity, found), indent=1).encode() + b"\n")
    base_size = _ask(*command, "image", "inspect", "--format", "{{.Size}}", base)
    place, tags = image.rpartition(":")[0], step_tags(variant)
    others = tuple(f"{place}:{tags[step]}" for step in CACHED if name == "pipeline")
    for other in (f"{place}:{'latest-gpu' if variant == 'gpu' else 'latest'}", *others):
        _ask(*command, "tag", image, other)
    return Built(image, int(size), int(base_size), found["report"], sbom, others)


def table(images: Sequence[Built]) -> str:
    """Names and sizes, and below it which torch was taken, and what else an image is called."""
    rows = [
        [each.image, f"{each.size / MEGABYTE:.0f} MB", f"{(each.size - each.base_size) / MEGABYTE:.0f} MB", str(sbom)]
        for each in images
        for sbom in [each.sbom.relative_to(ROOT)]
    ]
    torch = [f"torch in {each.image}: {each.report['torch']}" for each in images if "torch" in each.report]
    also = [f"also: {other}" for each in images for other in each.others]
    return "\n".join([aligned(["image", "size", "less its base", "packages"], rows), *torch, *also])


def _ask(*command: str) -> str:
    """What a command prints.

    Raises:
        ImageError: with its complaint, where it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise ImageError(f"`{' '.join(command[:3])}` failed: {complaint}")
    return done.stdout.strip()


def parser() -> Parser:
    """The command line."""
    made = Parser("pipelines.images", "Build the images of the steps and of the predictor.")
    made.add_argument("names", nargs="*", default=[*DOCKERFILES], metavar="IMAGE", help="default: pipeline predictor")
    made.add_argument("--variant", choices=("cpu", "gpu"), default="cpu", help="default: %(default)s")
    made.add_argument(
        "--registry", default=HERE, metavar="HOST", help="goes before the images' names; default: %(default)s"
    )
    made.add_argument("--base_image", default="", metavar="IMAGE", help=f"what they are built on; default: {BASE}")
    made.add_argument("--torch_index", metavar="URL", help="where torch's CPU build is; empty for nowhere")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Build them one after another; the sizes come last."""
    options = parser().parse_args(argv)
    if unknown := [name for name in options.names if name not in DOCKERFILES]:
        raise ImageError(f"there is no image {unknown[0]!r}: {' or '.join(DOCKERFILES)}")
    print(table([_build(name, options) for name in options.names]))
    return OK


def _build(name: str, options: argparse.Namespace) -> Built:
    return build(name, options.variant, options.registry, options.base_image, options.torch_index)


if __name__ == "__main__":
    sys.exit(run(main))
