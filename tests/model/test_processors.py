"""Quotas of control groups decide how many threads there are, for us and for every library, and threads do not spin."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.processors import available_cpus, cpu_quota, describe

ROOT = Path(__file__).resolve().parents[2]
V1, V2 = "cgroup cgroup rw,{}", "cgroup2 cgroup2 rw"


def machine(root, groups, mounts, files):
    """A root folder with /proc/self/cgroup, mounts ``{point: (top, type and options)}`` and the groups' files."""
    lines = [f"{30 + i} 25 0:2{i} {top} {point} rw shared:9 - {kind}" for i, (point, (top, kind)) in enumerate(mounts)]
    texts = {"proc/self/cgroup": "\n".join(groups), "proc/self/mountinfo": "\n".join(lines), **files}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


CGROUP = "/sys/fs/cgroup"
WHOLE = [(CGROUP, ("/", V2))]
SPLIT = [(f"{CGROUP}/memory", ("/", V1.format("memory"))), (f"{CGROUP}/cpu", ("/", V1.format("cpu")))]
JOINED = [(f"{CGROUP}/cpu,cpuacct", ("/", V1.format("cpu,cpuacct")))]
POD = "kubepods.slice/pod7.slice/cri-ab.scope"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        (["0::/"], WHOLE, {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (["0::/"], WHOLE, {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (["0::/"], WHOLE, {}, None),
        # The group itself has none, the pod above it has two, the node's slice three.
        (
            [f"0::/{POD}"],
            WHOLE,
            {
                f"sys/fs/cgroup/{POD}/cpu.max": "max 100000",
                "sys/fs/cgroup/kubepods.slice/pod7.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/kubepods.slice/cpu.max": "300000 100000",
            },
            2.0,
        ),
        ([f"0::/{POD}"], WHOLE, {f"sys/fs/cgroup/{POD}/cpu.max": "25000 50000"}, 0.5),
        # A neighbour's quota is not ours.
        (["0::/a/b"], WHOLE, {"sys/fs/cgroup/a/c/cpu.max": "1000 100000"}, None),
        # In a container without a namespace of its own: the host's name, but only the container's part is mounted.
        (
            ["3:cpu,cpuacct:/docker/ab"],
            [(f"{CGROUP}/cpu,cpuacct", ("/docker/ab", V1.format("cpu,cpuacct")))],
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (["0::/../../b"], WHOLE, {"sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
        (["0::/elsewhere"], [(CGROUP, ("/ours", V2))], {"sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
        (
            ["3:cpu,cpuacct:/a/b", "2:memory:/z"],
            JOINED,
            {
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "20000",
            },
            2.5,
        ),
        # Both versions side by side: version 1 has the processors; the other group's path is not this one's.
        (
            ["4:memory:/m", "1:cpu:/c", "0::/u"],
            [*SPLIT, (f"{CGROUP}/unified", ("/", V2))],
            {
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "120000",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/u/cpu.cfs_quota_us": "10000",
                "sys/fs/cgroup/cpu/u/cpu.cfs_period_us": "100000",
            },
            1.2,
        ),
        (["0::/x y"], [("/mnt/a\\040b", ("/", V2))], {"mnt/a b/x y/cpu.max": "70000 100000"}, 0.7),
        (["nonsense"], [(CGROUP, ("/", "cgroup2"))], {"sys/fs/cgroup/cpu.max": "?"}, None),
    ],
)
def test_the_least_quota_of_the_path_is_found(tmp_path, groups, mounts, files, quota):
    assert cpu_quota(machine(tmp_path, groups, mounts, files)) == quota


def test_a_quota_is_rounded_up_to_whole_processors_and_never_gives_more_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, cpus in (("10000", 1), ("100000", 1), ("100001", 2), ("250000", 3), ("9900000", 8), ("max", 8)):
        root = machine(tmp_path, ["0::/"], WHOLE, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
        assert available_cpus(root) == cpus
    assert available_cpus(tmp_path / "no-such-place") == 8


@contextlib.contextmanager
def limited_group(quota):
    """The folder of a real control group with that quota of microseconds in 100 ms, in a parent that has it."""
    controllers = Path(CGROUP, "cgroup.controllers")
    parents = [path for path in (Path(CGROUP, "cpu"), Path(CGROUP, "cpu,cpuacct")) if path.is_dir()]
    if controllers.exists() and "cpu" in controllers.read_text().split():
        parents.append(Path(CGROUP))
    outer = (parents or [Path(CGROUP)])[0] / f"prometheus-test-{os.getpid()}"
    made = []
    try:
        try:
            for folder in (outer, outer / "inner"):
                folder.mkdir()
                made.append(folder)
            version2 = (outer / "cpu.max").exists()
            (outer / ("cpu.max" if version2 else "cpu.cfs_quota_us")).write_text(f"{quota}{' 100000' * version2}")
        except OSError as error:
            pytest.skip(f"no control group can be made here ({error}): the quota was only tried on copies")
        yield outer / "inner"
    finally:
        for folder in reversed(made):
            folder.rmdir()


# What counts processors by itself, each in the words of its library.
COUNTS = """
import model, os, pyarrow, torch
from model.processors import available_cpus
from model.sessions import open_session
from serving.engine import EngineConfig
from model.sessions import PRODUCT
print(available_cpus(), torch.get_num_threads(), pyarrow.cpu_count(), os.environ["OMP_NUM_THREADS"],
      open_session(PRODUCT).get_session_options().intra_op_num_threads)
"""


def run(code, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_a_real_quota_decides_for_every_library():
    with limited_group(60_000) as group:
        enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
        assert run(enter + COUNTS).stdout.split() == ["1"] * 5


@pytest.mark.parametrize("package", ["serving", "components.step"])
def test_threads_wait_without_spinning(package):
    """OMP_DISPLAY_ENV lets the OpenMP runtime itself tell what it has read while PyTorch was loading it."""
    told = run(f"import {package}, torch", OMP_DISPLAY_ENV="verbose").stderr
    # Not by OMP_WAIT_POLICY, which is called PASSIVE even where nothing is set and threads spin 300,000 rounds.
    assert "GOMP_SPINCOUNT = '1000'" in told
    assert f"OMP_NUM_THREADS = '{available_cpus()}'" in told


def test_a_users_own_settings_stay():
    own = {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "70"}
    told = run("import model, torch", OMP_DISPLAY_ENV="verbose", **own).stderr
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in told and "OMP_NUM_THREADS = '3'" in told
    assert "GOMP_SPINCOUNT = '70'" in told
    told = run("import model, torch", OMP_DISPLAY_ENV="verbose", OMP_WAIT_POLICY="passive").stderr
    assert "GOMP_SPINCOUNT = '0'" in told  # a user's word for the whole, not for a half of ours


def test_processors_are_counted_in_one_place():
    counting = re.compile(r"\b(cpu_count|sched_getaffinity|process_cpu_count)\b")
    files = [p for package in ("components", "model", "pipelines", "serving") for p in (ROOT / package).rglob("*.py")]
    assert [p.name for p in files if counting.search(p.read_text("utf-8"))] == ["processors.py"]


@pytest.mark.parametrize(
    "module", ["model.training.__main__", "pipelines.run", "serving.server", "components.step", "benchmarks.threads"]
)
def test_nothing_that_counts_processors_is_imported_before_the_threads_are_settled(module):
    code = f"""
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        counts = name in ("torch", "numpy", "onnxruntime", "pyarrow", "sentencepiece")
        if counts and not {{"OMP_WAIT_POLICY", "OMP_NUM_THREADS"}} <= os.environ.keys():
            sys.exit(f"{{name}} is imported first")

sys.meta_path.insert(0, Watch())
import {module}
"""
    run(code)


def test_a_processor_is_described_by_its_name_and_instructions(tmp_path):
    found = describe()
    assert found["cpu"] and found["cores"] == available_cpus()
    assert found["instructions"], "this machine's processor has none of the instructions that are named"
    # NumPy has asked this processor, which has no such instructions: the file tells of another one.
    alien = "processor: 0\nmodel name\t: Alien 9\nflags\t\t: fpu avx2 avx512er avx_vnni asimddp sve\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(alien)
    found = describe(tmp_path)
    assert found["cpu"] == "Alien 9" and not {"AVX-VNNI", "DOTPROD", "SVE"} & set(found["instructions"])
    assert describe(tmp_path / "nothing")["instructions"] == []
