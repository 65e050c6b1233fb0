"""Bounds of real activations, for int8: the fp32 graphs are run on held-out text with their inner tensors as outputs.

Rows come from the corpus's valid split, encoded by the bundle's own tokenizer and teacher-forced, one row at a time so
that padding never counts. The cache's bounds are the largest magnitudes seen (a clipped key would be wrong for the rest
of the text); those of activations are a quantile over tokens of each token's largest magnitude, so that one outlier
does not cost every other token its resolution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from model.bundle import Bundle
from model.config import NetworkConfig
from model.corpus import read_card, read_split
from model.errors import ProjectError
from model.onnx.decoder import build_decoder
from model.onnx.encoder import build_encoder
from model.onnx.graph import Calibration, Graph
from model.onnx.runner import Runner
from model.onnx.weights import Weights
from model.row_counts import RowCount, row_count, too_long
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.examples import Example, pair_example, text_windows

ACTIVATION_QUANTILE = 0.999


class CalibrationError(ProjectError, ValueError):
    """A corpus that cannot calibrate this bundle; the message says why."""


def corpus_examples(bundle: Bundle, tokenizer: Tokenizer, corpus_dir: str | Path, split: str) -> Iterator[Example]:
    """An example of each row of a split, whether it fits the network or not: directions and author tokens alternate.

    Of running text it is the first window.

    Raises:
        CalibrationError: when the corpus is of another kind than the bundle's task.
    """
    card = read_card(corpus_dir)
    if card["kind"] != {"translation": "parallel", "text": "text"}[bundle.task]:
        raise CalibrationError(
            f"{corpus_dir}: holds a corpus of kind {card['kind']!r}, but {bundle.path} is a {bundle.task} model; give "
            f"the corpus it was trained on"
        )
    for i, record in enumerate(read_split(corpus_dir, split)):
        if bundle.task == "text":
            yield next(text_windows(tokenizer, tokenizer.encode(record["text"]), bundle.config.max_positions))
            continue
        source, target = bundle.languages if i % 2 == 0 else bundle.languages[::-1]
        author = record.get("author") if i % 4 < 2 else None
        ids, answer = tokenizer.encode(record[source]), tokenizer.encode(record[target])
        yield pair_example(tokenizer, bundle.family, ids, answer, target, author)


def calibrate(
    weights: Weights, config: NetworkConfig, examples: Iterable[Example], quantile: float = ACTIVATION_QUANTILE
) -> Calibration:
    """Measure the bounds on examples; see the module's text.

    Raises:
        CalibrationError: when there is no example at all, or the network gives values that are not finite.
    """
    graphs, tensors = {}, {}
    for role, build in (("encoder", build_encoder), ("decoder", build_decoder)):
        if role == "decoder" or config.family == "seq2seq":
            graphs[role], tensors[role] = _probed(build, weights, config)
    runner = Runner(graphs, config, threads=0)
    largest = defaultdict[str, list[np.ndarray]](list)  # by matrix: of each token that it was multiplied with
    cache = {f"present_{part}_{i}": 0.0 for i in range(config.decoder_layers) for part in ("key", "value")}

    def observe(role: str) -> None:
        for matrix, tensor in tensors[role].items():
            largest[matrix].append(np.abs(runner.outputs[tensor]).max(axis=-1).ravel())

    for example in examples:
        runner.start([example.source], capacity=len(example.inputs))
        if runner.encoder is not None:
            observe("encoder")
        runner.step(np.array([example.inputs]))
        observe("decoder")
        cache = {name: max(bound, float(np.abs(runner.outputs[name]).max())) for name, bound in cache.items()}
    if not largest:
        raise CalibrationError("no row of the valid split fits the network, so there is nothing to calibrate on")
    bounds = {matrix: float(np.quantile(np.concatenate(seen), quantile)) for matrix, seen in largest.items()}
    if not np.isfinite([*bounds.values(), *cache.values()]).all():
        raise CalibrationError("the network gives values that are not finite on the valid split; train it again")
    keys, values = ([bound for name, bound in cache.items() if part in name] for part in ("key", "value"))
    return Calibration(keys, values, bounds)


def calibrate_bundle(
    bundle: Bundle, weights: Weights, corpus_dir: str | Path, rows: int
) -> tuple[Calibration, RowCount]:
    """Calibrate on at most ``rows`` rows of a corpus's valid split; the bounds, and what became of the split's rows."""
    tokenizer, size = load_tokenizer(bundle.path), bundle.config.max_positions
    examples, long = list[Example](), 0
    for example in corpus_examples(bundle, tokenizer, corpus_dir, "valid"):
        if len(examples) == rows:
            break
        if example.width <= size:
            examples.append(example)
        else:
            long += 1
    found = calibrate(weights, bundle.config, examples)
    total = read_card(corpus_dir)["counts"]["valid"]
    beyond = {"beyond quantization.calibration_rows": total - len(examples) - long}
    cut = sum(example.answer[-1] != tokenizer.eos_id for example in examples)
    return found, row_count("calibration", "valid", total, len(examples), {too_long(size): long, **beyond}, cut=cut)


def _probed(
    build: Callable[[Graph], onnx.ModelProto], weights: Weights, config: NetworkConfig
) -> tuple[bytes, dict[str, str]]:
    """An fp32 graph that also gives the input of every matrix multiplication, and the names of those by matrix."""
    graph = Graph(weights, config)
    model = build(graph)
    for tensor in sorted(set(graph.matmul_inputs.values())):
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return model.SerializeToString(), graph.matmul_inputs
