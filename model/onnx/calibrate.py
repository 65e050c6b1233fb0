"""Bounds of real activations, for int8: the fp32 graphs are run on held-out text with their inner tensors as outputs.

Rows come from the corpus's valid split, encoded by the bundle's own tokenizer and teacher-forced, one row at a time so
that padding never counts. The cache's bounds are the largest magnitudes seen (a clipped key would be wrong for the rest
of the text); those of activations are a quantile over tokens of each token's largest magnitude, so that one outlier
does not cost every other token its resolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from model.bundle import Bundle
from model.config import NetworkConfig
from model.corpus import read_card, read_split
from model.onnx.decoder import build_decoder
from model.onnx.encoder import build_encoder
from model.onnx.graph import Calibration, Graph
from model.onnx.runner import open_session
from model.onnx.weights import Weights
from model.row_counts import RowCount, row_count, too_long
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.prompt import encode_prompt

ACTIVATION_QUANTILE = 0.999


class CalibrationError(ValueError):
    """A corpus that cannot calibrate this bundle; the message says why."""


def corpus_examples(
    bundle: Bundle,
    tokenizer: Tokenizer,
    corpus_dir: str | Path,
    split: str = "valid",
    tally: Counter[str] | None = None,
) -> Iterator[tuple[list[int], list[int]]]:
    """Prompt and target ids of the rows of a split that fit the network, directions and author tokens alternating.

    For running text the target is empty and the prompt is the text, cut to what fits. Rows that are "too_long" (left
    out) or "cut" are counted in ``tally``.

    Raises:
        CalibrationError: when the corpus is of another kind than the bundle's task.
    """
    card = read_card(corpus_dir)
    kind = {"translation": "parallel", "text": "text"}[bundle.task]
    if card["kind"] != kind:
        raise CalibrationError(
            f"{corpus_dir}: holds a corpus of kind {card['kind']!r}, but {bundle.path} is a {bundle.task} model; give "
            f"the corpus it was trained on"
        )
    size, family = bundle.config.max_positions, bundle.family
    tally = Counter() if tally is None else tally
    for i, record in enumerate(read_split(corpus_dir, split)):
        if bundle.task == "text":
            ids = encode_prompt(tokenizer, family=family, task="text", text=record["text"])
            tally["cut"] += len(ids) > size
            yield ids[:size], []
            continue
        source, target = bundle.languages if i % 2 == 0 else bundle.languages[::-1]
        author = record.get("author") if i % 4 < 2 else None
        prompt = encode_prompt(
            tokenizer, family=family, task=bundle.task, text=record[source], target=target, author=author
        )
        answer = tokenizer.encode(record[target])
        longest = max(len(prompt), len(answer) + 1) if family == "seq2seq" else len(prompt) + len(answer)
        if longest <= size:
            yield prompt, answer
        else:
            tally["too_long"] += 1


def calibrate(
    weights: Weights,
    config: NetworkConfig,
    examples: Iterable[tuple[list[int], list[int]]],
    bos_id: int,
    quantile: float = ACTIVATION_QUANTILE,
) -> Calibration:
    """Measure the bounds on examples (prompt ids, target ids); see the module's text.

    Raises:
        CalibrationError: when there is no example at all, or the network gives values that are not finite.
    """
    decoder = _Probe(build_decoder, weights, config)
    encoder = _Probe(build_encoder, weights, config) if config.family == "seq2seq" else None
    layers = range(config.decoder_layers)
    cache = {f"present_{part}_{i}": 0.0 for i in layers for part in ("key", "value")}
    empty = np.zeros((1, config.kv_heads, 0, config.head_dim), np.float32)
    count = 0
    for prompt, target in examples:
        feeds: dict[str, np.ndarray] = {}
        tokens = [*prompt, *target]
        if encoder is not None:
            tokens = [bos_id, *target]
            length = np.array([len(prompt)], np.int64)
            outputs = encoder.run({"source_ids": np.array([prompt], np.int64), "source_lengths": length})
            feeds = {name: value for name, value in outputs.items() if name.startswith("cross_")}
            feeds["source_lengths"] = length
        last = len(tokens) - 1
        feeds |= {
            "token_ids": np.array([tokens], np.int64),
            "cache_lengths": np.array([last], np.int32),
            "total_length": np.array(last + 1, np.int32),
            "last_index": np.array([last], np.int64),
            **{name.replace("present_", "past_"): empty for name in cache},
        }
        outputs = decoder.run(feeds)
        cache = {name: max(bound, float(np.abs(outputs[name]).max())) for name, bound in cache.items()}
        count += 1
    if not count:
        raise CalibrationError("no row of the valid split fits the network, so there is nothing to calibrate on")
    bounds = {**(encoder.bounds(quantile) if encoder is not None else {}), **decoder.bounds(quantile)}
    if not np.isfinite([*bounds.values(), *cache.values()]).all():
        raise CalibrationError("the network gives values that are not finite on the valid split; train it again")
    return Calibration(
        keys=[cache[f"present_key_{i}"] for i in layers],
        values=[cache[f"present_value_{i}"] for i in layers],
        activations=bounds,
    )


def calibrate_bundle(
    bundle: Bundle, weights: Weights, corpus_dir: str | Path, rows: int
) -> tuple[Calibration, RowCount]:
    """Calibrate on at most ``rows`` rows of a corpus's valid split; the bounds, and what became of the split's rows."""
    tokenizer = load_tokenizer(bundle.path)
    tally = Counter[str]()
    examples = list(islice(corpus_examples(bundle, tokenizer, corpus_dir, tally=tally), rows))
    found = calibrate(weights, bundle.config, examples, tokenizer.bos_id)
    total, used, long = read_card(corpus_dir)["counts"]["valid"], len(examples), tally["too_long"]
    left_out = {
        too_long(bundle.config.max_positions): long,
        "beyond quantization.calibration_rows": total - used - long,
    }
    return found, row_count("calibration", "valid", total, used, left_out, cut=tally["cut"])


class _Probe:
    """An fp32 graph that also gives the input of every matrix multiplication, and keeps each token's largest value."""

    def __init__(self, build: Any, weights: Weights, config: NetworkConfig) -> None:
        graph = Graph(weights, config)
        model: onnx.ModelProto = build(graph)
        self.inputs = graph.matmul_inputs
        for tensor in sorted(set(self.inputs.values())):
            model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
        self.session = open_session(model.SerializeToString())
        self.names = [output.name for output in self.session.get_outputs()]
        self.largest: dict[str, list[np.ndarray]] = {name: [] for name in self.inputs}

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = dict(zip(self.names, self.session.run(None, feeds), strict=True))
        for name, tensor in self.inputs.items():
            self.largest[name].append(np.abs(outputs[tensor]).max(axis=-1).ravel())
        return outputs

    def bounds(self, quantile: float) -> dict[str, float]:
        return {name: float(np.quantile(np.concatenate(seen), quantile)) for name, seen in self.largest.items() if seen}
