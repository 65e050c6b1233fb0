"""Bounds of real activations, for int8: the fp32 graphs are run on held-out text with their inner tensors as outputs.

Rows come from the corpus's valid split, encoded by the bundle's own tokenizer and teacher-forced, one row at a time so
that padding never counts. The cache's bounds are the largest magnitudes seen (a clipped key would be wrong for the rest
of the text); those of activations are a quantile over tokens of each token's largest magnitude, so that one outlier
does not cost every other token its resolution.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from model.bundle import Bundle
from model.config import NetworkConfig
from model.corpus import read_card, read_split
from model.onnx.graph import Calibration, Graph
from model.onnx.transformer import build_decoder, build_encoder
from model.onnx.weights import GraphError, Weights
from model.row_counts import RowCount, row_count, too_long
from model.sessions import open_session
from model.text.cleaning import clean_source
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.prompt import Example, pair_example, text_windows

ACTIVATION_QUANTILE = 0.999


def calibrate(
    weights: Weights, config: NetworkConfig, examples: Iterable[Example], quantile: float = ACTIVATION_QUANTILE
) -> Calibration:
    """Measure the bounds on examples; see the module's text.

    Raises:
        GraphError: when there is no example at all, or the network gives values that are not finite.
    """
    encoder = _Probe(build_encoder, weights, config) if config.family == "seq2seq" else None
    decoder = _Probe(build_decoder, weights, config)
    parts = [f"{part}_{i}" for i in range(config.decoder_layers) for part in ("key", "value")]
    recurrent = config.decoder_mixer == "ssru"
    cache: dict[str, float] = {} if recurrent else dict.fromkeys(parts, 0.0)
    for example in examples:
        feeds: dict[str, np.ndarray] = {}
        if encoder is not None:
            feeds["source_lengths"] = np.array([len(example.source)])
            outputs = encoder.run({"source_ids": np.array([example.source]), **feeds})
            feeds |= {f"cross_{part}": outputs[f"cross_{part}"] for part in parts}
        if recurrent:
            _read(decoder, example.inputs, feeds, config)
            continue
        length = len(example.inputs)
        empty = np.zeros((1, config.kv_heads, length, config.head_dim), np.float32)
        feeds |= {f"past_{part}": empty for part in cache}
        feeds |= {"token_ids": np.array([example.inputs]), "cache_lengths": np.array([length - 1], np.int32)}
        feeds |= {"last_index": np.array([length - 1]), "total_length": np.array(length, np.int32)}
        outputs = decoder.run(feeds)
        cache = {part: max(bound, float(np.abs(outputs[f"present_{part}"]).max())) for part, bound in cache.items()}
    largest = {**(encoder.largest if encoder is not None else {}), **decoder.largest}
    if not largest:
        raise GraphError("no row of the valid split fits the network, so there is nothing to calibrate on")
    bounds = {matrix: float(np.quantile(np.concatenate(seen), quantile)) for matrix, seen in largest.items()}
    if not np.isfinite([*bounds.values(), *cache.values()]).all():
        raise GraphError("the network gives values that are not finite on the valid split; train it again")
    keys, values = ([bound for part, bound in cache.items() if part.startswith(kind)] for kind in ("key", "value"))
    return Calibration(keys, values, bounds)


def _read(decoder: "_Probe", tokens: list[int], feeds: dict[str, np.ndarray], config: NetworkConfig) -> None:
    """Run a text through a recurrent decoder, token by token."""
    layers = range(config.decoder_layers)
    states = {f"past_state_{i}": np.zeros((1, 1, config.d_model), np.float32) for i in layers}
    for token in tokens:
        outputs = decoder.run({**feeds, **states, "token_ids": np.array([[token]])})
        states = {f"past_state_{i}": outputs[f"present_state_{i}"] for i in layers}


def calibrate_bundle(
    bundle: Bundle, weights: Weights, corpus_dir: str | Path, rows: int
) -> tuple[Calibration, RowCount]:
    """Calibrate on at most ``rows`` rows of a corpus's valid split; the bounds, and what became of the split's rows.

    Raises:
        GraphError: when the corpus is of another kind than the bundle's task, or has nothing to calibrate on.
    """
    card, size = read_card(corpus_dir), bundle.config.max_positions
    examples, long = list[Example](), 0
    for example in _examples(bundle, card, corpus_dir):
        if len(examples) == rows:
            break
        if example.width <= size:
            examples.append(example)
        else:
            long += 1
    found = calibrate(weights, bundle.config, examples)
    total = card["counts"]["valid"]
    beyond = {"beyond quantization.calibration_rows": total - len(examples) - long}
    cut = sum(example.answer[-1] != Tokenizer.eos_id for example in examples)
    return found, row_count("calibration", "valid", total, len(examples), {too_long(size): long, **beyond}, cut=cut)


def _examples(bundle: Bundle, card: dict[str, Any], corpus_dir: str | Path) -> Iterator[Example]:
    """An example of each row, whether it fits the network or not: directions and author tokens alternate.

    Of running text it is the first window.
    """
    tokenizer = load_tokenizer(bundle.path)
    if card["kind"] != {"translation": "parallel", "text": "text"}[bundle.task]:
        raise GraphError(
            f"{corpus_dir}: holds a corpus of kind {card['kind']!r}, but {bundle.path} is a {bundle.task} model; give "
            f"the corpus it was trained on"
        )
    for i, record in enumerate(read_split(corpus_dir, "valid")):
        if bundle.task == "text":
            yield next(text_windows(tokenizer, tokenizer.encode(record["text"]), bundle.config.max_positions))
            continue
        source, target = bundle.languages if i % 2 == 0 else bundle.languages[::-1]
        author = record.get("author") if i % 4 < 2 else None
        ids, answer = tokenizer.encode(clean_source(record[source])), tokenizer.encode(record[target])
        yield pair_example(tokenizer, bundle.family, ids, answer, target, author)


class _Probe:
    """An fp32 graph that also gives the input of every matrix multiplication.

    Attributes:
        largest: by matrix, the largest magnitudes of each token that it was multiplied with, run by run.
    """

    def __init__(self, build: Callable[[Graph], onnx.ModelProto], weights: Weights, config: NetworkConfig) -> None:
        graph = Graph(weights, config)
        model = build(graph)
        for tensor in sorted(set(graph.matmul_inputs.values())):
            model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
        self._session, self._inputs = open_session(model.SerializeToString()), graph.matmul_inputs
        self.largest = defaultdict[str, list[np.ndarray]](list)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name."""
        names = [item.name for item in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(None, feeds), strict=True))
        for matrix, tensor in self._inputs.items():
            self.largest[matrix].append(np.abs(outputs[tensor]).max(axis=-1).ravel())
        return outputs
