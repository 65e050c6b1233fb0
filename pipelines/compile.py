"""Compile the pipeline to the YAML that Kubeflow Pipelines takes.

    python -m pipelines.compile [build/pipeline.yaml]

The file holds two documents: the pipeline, and its Kubernetes settings. The image comes from $PROMETHEUS_IMAGE.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kfp import compiler

from components.image import IMAGE
from pipelines.pipeline import pipeline
from pipelines.provenance import code_version


def compile_pipeline(out: str | Path) -> Path:
    """Write the IR YAML, with this code's version as the default of its parameter; returns the path."""
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}")
    parameters = {"code_version": code_version()}
    compiler.Compiler().compile(pipeline, str(draft), pipeline_parameters=parameters)
    draft.replace(target)
    return target


def main() -> None:
    """Command line: where to write."""
    parser = argparse.ArgumentParser(description="Compile the pipeline to Kubeflow's YAML.")
    parser.add_argument("out", nargs="?", default="build/pipeline.yaml", help="default: %(default)s")
    target = compile_pipeline(parser.parse_args().out)
    print(f"wrote {target} (image {IMAGE}): upload it to Kubeflow Pipelines")


if __name__ == "__main__":
    main()
