"""Compile the pipeline to the YAML that Kubeflow Pipelines takes, with a profile's settings as its defaults.

    python -m pipelines.compile --profile small --corpus s3://bucket/pairs.tsv.zst --publish_to s3://bucket/models

The steps' image is $PROMETHEUS_IMAGE, or what `make images` made for $REGISTRY. The file holds two
documents, the pipeline and its Kubernetes settings, and is the same, byte for byte, for the same code, image and
request.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.compiler import pipeline_spec_builder

from components.image import UNSET
from model.config import ConfigError, Profile
from model.files import write_text
from model.options import OK, Parser, run
from pipelines.images import step_tags
from pipelines.parameters import parameters
from pipelines.pipeline import define
from pipelines.provenance import ROOT, code_version
from pipelines.request import add_request, read_request


def image_names(gpu: bool = False) -> dict[str, str]:
    """The image by component: by its code's name in $REGISTRY, as `make images` has it, or $PROMETHEUS_IMAGE for all.

    Args:
        gpu: The image for GPUs; $PROMETHEUS_IMAGE is what it is.

    Raises:
        ConfigError: where neither $PROMETHEUS_IMAGE nor $REGISTRY is set: no image would be pulled from anywhere.
    """
    image, registry = os.environ.get("PROMETHEUS_IMAGE", ""), os.environ.get("REGISTRY", "").rstrip("/")
    if image == UNSET or not (image or registry):
        raise ConfigError(
            "no image for the steps: `make images` makes it, then set PROMETHEUS_IMAGE=registry/name:tag, or "
            "REGISTRY=registry for the tags of this code"
        )
    tags = step_tags("gpu" if gpu else "cpu")
    return {step: image or f"{registry}/prometheus-mini/pipeline:{tag}" for step, tag in tags.items()}


def compile_pipeline(out: Path, images: Mapping[str, str], arguments: Mapping[str, Any], title: str = "") -> None:
    """Write the IR YAML.

    Args:
        out: The file.
        images: What each component runs in (image_names).
        arguments: The defaults of all parameters; a store in a volume (pvc://claim) is mounted.
        title: A line at the file's head.
    """
    teacher = arguments["teacher"]
    places = (arguments["publish_to"], arguments["checkpoint_uri"], arguments["init_from"], teacher.get("bundle", ""))
    claims = {place.removeprefix("pvc://").partition("/")[0] for place in places if place.startswith("pvc://")}
    pipeline = define(arguments, images, tuple(sorted(claims)))
    spec = pipeline_spec_builder.modify_pipeline_spec_with_override(
        pipeline_spec=pipeline.pipeline_spec,
        pipeline_name=None,
        # Without a default a parameter must be given: a run without a store is not to start.
        pipeline_parameters={name: value for name, value in arguments.items() if (name, value) != ("publish_to", "")},
    )
    # Kubeflow's own writer puts the parameters into a comment as well, in an order that changes from run to run.
    documents = [json_format.MessageToDict(part) for part in (spec, pipeline.platform_spec)]
    head = f"# {title}\n" if title else ""
    write_text(out, head + yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120))


def in_the_image(profile: Profile, sources: Sequence[str], tests: Sequence[str]) -> Profile:
    """The profile with its own text where the image has it.

    Raises:
        ConfigError: for files of this machine, which no pod sees.
    """
    lost = "lies on this machine, where no pod sees it"
    named = (*sources, *tests, *filter(None, [profile.distillation.teacher]))
    problems = [f"{source}: {lost}" for source in named if "://" not in source]
    inside: list[str] = []
    for source in profile.corpus.sources if not sources else ():
        path = Path(source).absolute()
        if "://" in source:
            inside.append(source)
        elif path.is_relative_to(ROOT):
            inside.append(path.relative_to(ROOT).as_posix())
        else:
            problems.append(f"{source}: lies outside of {ROOT}, and is not in the image")
    if problems:
        cure = "upload it, and give its address (s3://, https://, hf://)"
        raise ConfigError("\n".join([*problems, cure]))
    return profile.model_copy(update={"corpus": profile.corpus.model_copy(update={"sources": inside})})


def parser() -> Parser:
    """The command line."""
    made = Parser("pipelines.compile", "Compile the pipeline to Kubeflow's YAML.")
    made.add_argument("out", nargs="?", type=Path, default=Path("build/pipeline.yaml"), help="default: %(default)s")
    add_request(made)
    made.add_argument("--publish_to", default="", metavar="STORE", help="default of the parameter; none: to be given")
    made.add_argument("--release_to", default="", metavar="NAMESPACE/NAME", help="InferenceService to release to")
    made.add_argument("--checkpoint_uri", default="", metavar="PLACE", help="keeps the state of an unfinished training")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    options = parser().parse_args(argv)
    request = read_request(options.profile, options.set, options.corpus, options.test, options.init_from)
    images = image_names(gpu=bool(request.profile.resources.gpus))
    image = images["publish"]  # by the version of all of the code, or by the one name that was given
    profile = in_the_image(request.profile, request.corpus, [*request.tests, *filter(None, [request.init_from])])
    version = code_version()
    arguments = parameters(
        profile,
        version,
        publish_to=options.publish_to,
        release_to=options.release_to,
        checkpoint_uri=options.checkpoint_uri,
        sources=request.corpus,
        tests=request.tests,
        init_from=request.init_from,
    )
    title = f"prometheus-mini {version}, profile {profile.name}, image {image}"
    compile_pipeline(options.out, images, arguments, title)
    print(*request.notes, f"wrote {options.out}: profile {profile.name}, image {image}", sep="\n")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
