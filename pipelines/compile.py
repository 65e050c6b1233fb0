"""Compile the pipeline to the YAML that Kubeflow Pipelines takes.

    python -m pipelines.compile build/pipeline.yaml

The file holds two documents: the pipeline, and its Kubernetes settings. The image comes from $PROMETHEUS_IMAGE.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler

from components.image import IMAGE
from model.files import write_bytes
from model.options import OK, Parser, run
from pipelines.pipeline import pipeline
from pipelines.provenance import code_version


def compile_pipeline(out: Path) -> None:
    """Write the IR YAML, with this code's version as the default of its parameter."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, str(draft), pipeline_parameters={"code_version": code_version()})
        write_bytes(out, draft.read_bytes())


def parser() -> Parser:
    """The command line."""
    made = Parser("pipelines.compile", "Compile the pipeline to Kubeflow's YAML.")
    made.add_argument("out", nargs="?", type=Path, default=Path("build/pipeline.yaml"), help="default: %(default)s")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    out = parser().parse_args(argv).out
    compile_pipeline(out)
    print(f"wrote {out} (image {IMAGE}): upload it to Kubeflow Pipelines")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
