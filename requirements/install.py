"""Install one of the locks into the Python that runs this, inside an image: `python requirements/install.py pipeline`.

--variant gpu takes the lock as it is, and the CUDA libraries of NAME-cuda.lock. --variant cpu takes plain ONNX Runtime
of the same version, which lacks the CUDA provider (270 MB), and torch's CPU build from --torch-index. Where that index
does not have it or cannot be reached, PyPI's CUDA build is taken, and of its CUDA libraries only those files that are
loaded by `import torch` and a step of training are kept. The packages' own tests are removed, and of the rest only what
--imports imports is compiled to bytecode, which a read-only container could not keep.

Only the standard library is used: the image has nothing else yet. What was taken is written to --report as JSON.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIP = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--progress-bar", "off"]
# Nothing of torch's own code links them (readelf -d torch/lib/*.so): they are loaded where a GPU is used, or never.
UNLINKED = ("cuda-", "nvidia-cusolver", "nvidia-nvtx", "triton")
# What compilers read.
SOURCES = {".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyx"}
# Forward, backward and an optimizer's step of every kind of layer that the model has; prints the libraries then loaded.
TRAINING = """
import torch
from torch import nn
heads = nn.MultiheadAttention(8, 2, batch_first=True)
network = nn.Sequential(nn.Embedding(9, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())
optimizer = torch.optim.AdamW([*network.parameters(), *heads.parameters()])
with torch.autocast("cpu", torch.bfloat16):
    hidden = network(torch.arange(9)[None])
    hidden = heads(hidden, hidden, hidden)[0]
    loss = nn.functional.cross_entropy(nn.functional.scaled_dot_product_attention(hidden, hidden, hidden)[0].float(),
                                       torch.arange(9) % 8)
loss.backward()
optimizer.step()
torch.linalg.norm(torch.ones(3, 3))
assert torch.isfinite(loss) and not torch.cuda.is_available()
print(*{line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}, sep="\\n")
"""


def pip(requirements: list[str], *options: str) -> bool:
    """Install the requirements as they stand, without what they depend on; False where pip fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements) + "\n")
        file.flush()
        return subprocess.run([*PIP, *options, "-r", file.name], check=False).returncode == 0


def must(requirements: list[str], *options: str) -> None:
    """Like pip(), and the build of the image ends where it fails."""
    if not pip(requirements, *options):
        sys.exit("install.py: pip could not install the lock (above)")


def read(name: str) -> list[str]:
    """The requirements of a lock."""
    return [line for line in (HERE / f"{name}.lock").read_text().splitlines() if line and not line.startswith("#")]


def plain(requirements: list[str]) -> list[str]:
    """The lock with ONNX Runtime's CPU package in place of its CUDA package."""
    return sorted({re.sub(r"^onnxruntime(?:-gpu)?==(\S+).*", r"onnxruntime==\1", line) for line in requirements})


def prune(kept: set[str]) -> int:
    """Remove the CUDA libraries' files that are not among the paths given; returns the bytes removed."""
    removed = 0
    for path in sorted(Path(str(metadata.distribution("torch").locate_file("nvidia"))).rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix != ".py" and str(path.resolve()) not in kept:
            removed += path.lstat().st_size
            path.unlink()
    return removed


def drop_unread(compilers: bool) -> None:
    """Remove the folders called tests of all packages, and headers and sources where no compiler is to read them."""
    for folder in {Path(str(found.locate_file(""))) for found in metadata.distributions()}:
        for path in [*folder.glob("*/**/tests")]:
            shutil.rmtree(path, ignore_errors=True)
        for path in [] if compilers else [*folder.rglob("*.*")]:
            if path.suffix in SOURCES:
                path.unlink()


def compile_imports(modules: str) -> None:
    """Import the modules once, so that the bytecode of all that they import lies beside it."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, env=environment)


def torch_for_cpu(requirement: str, companions: list[str], index: str) -> str:
    """Install torch for machines without a GPU; returns which build it is, in words."""
    if index and pip([requirement], "--index-url", index, "--retries", "1", "--timeout", "20"):
        return f"the CPU build, from {index}"
    must([requirement])
    if "+cpu" in metadata.version("torch") or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "PyPI's build"
    must([line for line in companions if not line.startswith(UNLINKED)])
    loaded = subprocess.run([sys.executable, "-c", TRAINING], check=True, capture_output=True, text=True).stdout.split()
    removed = prune({str(Path(path).resolve()) for path in loaded})
    subprocess.run([sys.executable, "-c", TRAINING], check=True, capture_output=True)
    tried = f"{index} has no CPU build or cannot be reached" if index else "no index with the CPU build was given"
    return f"PyPI's CUDA build less {removed / 1e6:.0f} MB that only a GPU needs, as {tried}"


def install(name: str, variant: str, index: str, without: list[str]) -> dict[str, str]:
    """Install a lock; returns what was taken."""
    requirements = [line for line in read(name) if line.partition("==")[0] not in without]
    companions = read(f"{name}-cuda") if (platform.system(), platform.machine()) == ("Linux", "x86_64") else []
    report = {"lock": name, "variant": variant, "left out": ", ".join(without)}
    if variant == "gpu":
        must(requirements + companions)
        return report
    torch = [line for line in requirements if line.startswith("torch==")]
    must([line for line in plain(requirements) if line not in torch])
    if torch:
        report["torch"] = torch_for_cpu(torch[0], companions, index)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("pipeline", "serving"))
    parser.add_argument("--variant", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--torch-index", default="", metavar="URL", help="where torch's CPU build is")
    parser.add_argument("--without", default="", metavar="NAMES", help="packages of the lock that nothing imports")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE")
    parser.add_argument("--imports", required=True, metavar="MODULES", help="what is compiled to bytecode: numpy,torch")
    given = parser.parse_args()
    found = install(given.name, given.variant, given.torch_index, [name for name in given.without.split(",") if name])
    drop_unread(compilers="torch" in found)  # torch.compile reads torch's headers
    compile_imports(given.imports)
    given.report.write_text(json.dumps(found, indent=1) + "\n")
    print(*(f"{key}: {value}" for key, value in found.items()), sep="\n")
