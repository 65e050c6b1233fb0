"""Runs a bundle's graphs call by call with plain arrays: no slots, no binding, no scheduling.

Slow and simple on purpose: the graphs are held against PyTorch with it, and the engine against it.

Legend: B rows, S tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from model.config import NetworkConfig
from model.sessions import open_session
from model.tokenizer.prompt import pad

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}


class Runner:
    """The graphs of one bundle, and the state of one batch that is being decoded.

    Attributes:
        outputs: everything that the graph run last gave, by name.
    """

    def __init__(self, graphs: Mapping[str, bytes | Path], config: NetworkConfig, threads: int = 1) -> None:
        self.config = config
        self.encoder = open_session(graphs["encoder"], threads) if "encoder" in graphs else None
        self.decoder = open_session(graphs["decoder"], threads)
        self._types = {item.name: item.type for item in self.decoder.get_inputs()}
        self.recurrent = config.decoder_mixer == "ssru"
        self.cache_dtype = _DTYPES[self._types["past_state_0" if self.recurrent else "past_key_0"]]
        self.outputs: dict[str, np.ndarray] = {}
        self.cross: dict[str, np.ndarray] = {}
        self.past: dict[str, np.ndarray] = {}
        self.lengths = np.zeros(0, np.int32)

    def start(self, sources: Sequence[Sequence[int]] | None = None, rows: int = 1, capacity: int = 0) -> None:
        """Begin a batch: encode the sources (seq2seq), or take ``rows`` empty rows (decoder-only)."""
        if self.encoder is not None:
            assert sources is not None, "a seq2seq batch starts from its sources"
            ids, lengths = pad(sources)
            self._run(self.encoder, {"source_ids": ids, "source_lengths": lengths})
            self.cross = {name: value for name, value in self.outputs.items() if name.startswith("cross_")}
            self.cross["source_lengths"] = lengths
            rows = len(sources)
        shape: tuple[int, ...] = (rows, 1, self.config.d_model)
        if not self.recurrent:
            shape = (rows, self.config.kv_heads, capacity or self.config.max_positions, self.config.head_dim)
        kinds = ("state",) if self.recurrent else ("key", "value")
        parts = [f"past_{part}_{i}" for i in range(self.config.decoder_layers) for part in kinds]
        self.past = {name: np.zeros(shape, self.cache_dtype) for name in parts}
        self.lengths = np.zeros(rows, np.int32)

    def step(self, tokens: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """Append ``tokens`` i64 [B, S], of which ``counts`` i64 [B] are real (all by default); logits f32 [B, V].

        A recurrent decoder takes them one by one, and all have to be real.
        """
        if self.recurrent and tokens.shape[1] > 1:
            assert counts is None
            return self.score(tokens)[:, -1]
        counts = np.full(len(tokens), tokens.shape[1], np.int64) if counts is None else counts
        self.lengths = (self.lengths + counts).astype(np.int32)
        feeds: dict[str, np.ndarray] = {
            "token_ids": np.asarray(tokens, np.int64),
            "cache_lengths": self.lengths - 1,
            "total_length": np.array(max(self.lengths.max(), tokens.shape[1]), np.int32),
            "last_index": np.asarray(counts - 1, np.int64),
        }
        feeds = {name: values for name, values in {**feeds, **self.cross}.items() if name in self._types}
        self._run(self.decoder, {**feeds, **self.past})
        self.past = {name: self.outputs[name.replace("past_", "present_", 1)] for name in self.past}
        return self.outputs["logits"]

    def _run(self, session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> None:
        names = [item.name for item in session.get_outputs()]
        self.outputs = dict(zip(names, session.run(None, feeds), strict=True))

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Teacher-forced logits f32 [B, S, V] of ``tokens`` i64 [B, S], one decode step at a time."""
        return np.stack([self.step(tokens[:, t : t + 1]) for t in range(tokens.shape[1])], axis=1)
