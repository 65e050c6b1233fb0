"""Which execution provider runs the graphs, sessions over them, and whether they can do what is promised.

ONNX Runtime lists every provider that it was built with, falls back to the CPU when one does not load, and leaves to
the CPU whatever nodes a provider does not take. So three things are looked at: whether the provider is listed, whether
the session really has it, and how many of the graph's nodes it was given.

CUDA and TensorRT have NOT been run: no GPU was at hand. TensorRT knows none of ONNX Runtime's own operators (attention
over the cache is one), so CUDA runs those and TensorRT what lies between; it builds its kernels in its first runs.
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from model.bundle import Bundle
from model.sessions import products_saturate, session_options
from serving.errors import EngineFailed

log = logging.getLogger("serving.engine")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
CHAINS = {"cuda": [CUDA, CPU], "tensorrt": [TENSORRT, CUDA, CPU]}
ADVICE = "mend the driver and libraries, or set provider: cpu"


def wanted_providers(setting: str, precision: str) -> list[str]:
    """Execution providers to ask for, best first.

    Raises:
        EngineFailed: when the setting demands one that cannot work with this ONNX Runtime or precision.
    """
    if precision == "int8" and products_saturate():
        log.warning("this processor has no VNNI: int8 is computed exactly, by slower kernels")
    if setting == "cpu":
        return [CPU]
    available = onnxruntime.get_available_providers()
    if setting == "auto":
        # Asking ONNX Runtime for CUDA without a GPU costs time and an alarming message, so look first.
        gpu = any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/dev/nvidia-modeset"))
        if not gpu or CUDA not in available:
            return [CPU]
    if precision != "fp16":
        # The cache's attention kernel has no fp32 and the int8 products have no CUDA kernels at all.
        text = f"the {precision} variant has no CUDA kernels; publish the fp16 variant to use the GPU"
        if setting != "auto":
            raise EngineFailed(text)
        log.warning("%s, running on the CPU", text)
        return [CPU]
    chain = CHAINS["cuda" if setting == "auto" else setting]
    if chain[0] not in available:
        raise EngineFailed(f"this ONNX Runtime is built without {chain[0]}: install onnxruntime-gpu, or {ADVICE}")
    onnxruntime.preload_dlls()  # finds the CUDA libraries of the nvidia-* packages
    return chain


def open_session(path: Path, providers: list[str], threads: int, spin: bool) -> Any:
    """A session over one graph.

    Raises:
        EngineFailed: when the graph does not load.
    """
    options = session_options(threads)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        raise EngineFailed(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load this graph: {error}") from error


def check_provider(session: Any, providers: list[str], demanded: bool) -> str:
    """The provider that really runs a session that was opened for ``providers``.

    Raises:
        EngineFailed: when a demanded provider did not load, or runs no node of the graph.
    """
    loaded, nodes = session.get_providers()[0], node_counts(session)
    if loaded != providers[0]:
        text = f"{providers[0]} is listed by ONNX Runtime but did not load; {loaded} runs instead"
    elif not nodes.get(loaded):
        text = f"{loaded} loaded but takes no node of this graph; {max(nodes, key=nodes.__getitem__)} runs it instead"
        loaded = max(nodes, key=nodes.__getitem__)
    else:
        return loaded
    if demanded:
        raise EngineFailed(f"{text}, and the setting demands it: {ADVICE}")
    log.warning(text)
    return loaded


def node_counts(session: Any) -> dict[str, int]:
    """How many nodes of the graph each provider runs."""
    parts = session.get_provider_graph_assignment_info()
    return dict(Counter(part.ep_name for part in parts for _ in part.get_nodes()))


def check_reach(bundle: Bundle, role: str, limit: str, promised: int, run: Callable[[int], None]) -> None:
    """See that a graph can run as many tokens as its manifest promises.

    Args:
        limit: the manifest's limit that promises it.
        run: runs so many tokens.

    Raises:
        EngineFailed: when it does not run at all, or less; naming the field and what it can do.
    """
    reasons: list[str] = []

    def fails(size: int) -> bool:
        try:
            run(size)
            return False
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            reasons.append(str(error))
            return True

    if not fails(promised):
        return
    works = bisect_left(range(1, promised), True, key=fails)
    if not works:
        raise EngineFailed(f"{bundle.path}: the graphs load but do not run: {reasons[0]}")
    raise EngineFailed(
        f"{bundle.path}: bundle.json promises {promised} tokens (limits.{limit} {bundle.limits[limit]}, "
        f"config.max_positions {bundle.config.max_positions}), but the {role} graph runs at most {works}; "
        f"export the bundle again. ONNX Runtime says: {reasons[0]}"
    )
