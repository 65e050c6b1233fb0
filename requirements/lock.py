"""Resolve requirements/*.in into the committed *.lock files, the one source of every exact version.

serving.lock and pipeline.lock are subsets of all.lock: they are resolved under its versions, so that what is tested is
what the images run. Beside them, serving-cuda.lock and pipeline-cuda.lock hold the CUDA libraries of the GPU images.
The others stand apart, in environments of their own: the other engines of `make bench-serving`, the clients that
`make test` calls the server with, MLflow's server, which wants other versions than its client here, and what makes the
demo's text, with the zstd whose bytes are compared.
Versions already in a lock are kept; `python requirements/lock.py --upgrade` takes the newest.

    make lock
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = "# Exact versions, written by `make lock` from requirements/{name}.in: edit that file, not this one.\n"
WITHOUT_CUDA = """\
# CUDA companions of torch (nvidia-*, cuda-*, triton) are left out on purpose: torch from PyPI brings the ones that it
# was built with, and the CPU build has none. No local version labels ("+cpu") either, so that any build satisfies it.
"""
ONLY_CUDA = "# The CUDA libraries alone, for Linux on x86-64: they are installed on top of {name}.lock.\n"
COMPANIONS = ("nvidia-", "cuda-", "triton==")
OURS = "nvidia-ml-py=="  # a binding in Python, no companion
GPU_MARKER = 'sys_platform == "linux" and platform_machine == "x86_64"'
PLAIN_MARKER = 'sys_platform != "linux" or platform_machine != "x86_64"'


def portable(resolved: str, name: str) -> str:
    """What pip-compile found on this machine, made true for every machine; one requirement a line, sorted.

    Of the locks called ...-cuda the companions are kept and all else is left out, of the others the reverse.
    """
    lines, cuda = set(), name.endswith("-cuda")
    for line in resolved.splitlines():
        requirement = line.split("#")[0].strip()
        companion = requirement.startswith(COMPANIONS) and not requirement.startswith(OURS)
        if not requirement or requirement.startswith("-") or companion != cuda:
            continue
        requirement = re.sub(r"\+[a-z0-9.]+", "", requirement)
        if name != "bench" and (found := re.match(r"onnxruntime(?:-gpu)?==(\S+)", requirement)):
            lines.add(f"onnxruntime-gpu=={found[1]} ; {GPU_MARKER}")
            lines.add(f"onnxruntime=={found[1]} ; {PLAIN_MARKER}")
        else:
            lines.add(requirement)
    note = ONLY_CUDA.format(name=name.removesuffix("-cuda")) if cuda else WITHOUT_CUDA
    return HEADER.format(name=name) + note + "\n".join(sorted(lines, key=str.lower)) + "\n"


def lock(name: str, *options: str) -> None:
    """Write requirements/<name>.lock, beside the old one and then in its place."""
    target, draft = HERE / f"{name}.lock", HERE / f"{name}.lock.draft"
    draft.write_text(target.read_text() if target.exists() else "")
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--allow-unsafe", "--strip-extras"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
    try:
        subprocess.run([*command, *options, f"{name}.in", "-o", draft.name], cwd=HERE, check=True)
        draft.write_text(portable(draft.read_text(), name))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    lock("all", *sys.argv[1:])
    lock("serving", "--constraint", "all.lock", *sys.argv[1:])
    lock("pipeline", "--constraint", "all.lock", *sys.argv[1:])
    lock("pipeline-cuda", "--constraint", "all.lock", *sys.argv[1:])
    lock("serving-cuda", "--constraint", "all.lock", "--constraint", "pipeline-cuda.lock", *sys.argv[1:])
    lock("bench", *sys.argv[1:])
    lock("clients", *sys.argv[1:])
    lock("mlflow", *sys.argv[1:])
    lock("phrasebook", "--constraint", "all.lock", *sys.argv[1:])
