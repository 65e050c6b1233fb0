"""A sound bundle, hashes and all, whose decoder graph fails in the middle of a long text: an engine crash from outside.

fragile_bundle(tmp_path / "bundle", tokens=400)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from model.bundle import Bundle, write_bundle
from tests.helpers.bundles import tiny_bundle


def fragile_bundle(out: Path, tokens: int, **network: Any) -> Path:
    """A bundle whose decoder cannot run when the longest row comes to hold ``tokens`` tokens, more or fewer are well: a
    start, which tries the longest case, finds nothing. The bundle's path.

    To the logits is added an entry of a table of a single zero, looked up at 0, and at that length at 1: ONNX Runtime
    refuses the lookup, as it would refuse any other fault in a graph.
    """
    sound = tiny_bundle(out.with_name(f"{out.name}-sound"), **network)
    bundle = Bundle.load(sound)
    model = onnx.load(str(bundle.graph("decoder")))
    graph = model.graph
    (last,) = [node for node in graph.node if "logits" in node.output]
    last.output[list(last.output).index("logits")] = "sound_logits"
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "fragile_table"))
    graph.initializer.append(numpy_helper.from_array(np.array(tokens, np.int32), "fragile_length"))
    graph.node.extend(
        [
            helper.make_node("Equal", ["total_length", "fragile_length"], ["fragile_there"]),
            helper.make_node("Cast", ["fragile_there"], ["fragile_index"], to=onnx.TensorProto.INT32),
            helper.make_node("Gather", ["fragile_table", "fragile_index"], ["fragile_zero"]),
            helper.make_node("Add", ["sound_logits", "fragile_zero"], ["logits"]),
        ]
    )
    fields = bundle.model_dump(exclude={"format_version", "files"})
    files: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.files}
    files[bundle.graph("decoder").name] = model.SerializeToString()
    write_bundle(out, files=files, **fields)
    return out
