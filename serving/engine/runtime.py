"""A bundle's graphs and the memory they work on: slots of KV cache, cross-attention buffers, cached bindings.

Everything is allocated once and bound by address, so a decode step allocates nothing and copies nothing:

* past and present of the KV cache are bound to one buffer, which the attention kernel extends in place; a recurrent
  decoder has one vector per layer in its place, which is read before it is written;
* entry i of every buffer belongs to the request in slot i. Prefill writes straight into it. On the CPU the slots in use
  are kept dense (``move`` brings the last one into a free one), because every slot of a run costs time. On CUDA a free
  one costs next to nothing and stays: the engine then decodes past it (``dense`` is False);
* cross-attention pads each source to a common length; buffers exist for a few bucket lengths, and slots change over
  when a long source comes or has gone. On CUDA there is one bucket, the longest;
* one binding per (slots, bucket) is made once and kept. ONNX Runtime keeps bare addresses: every bound array is held by
  this object for as long as its bindings live.

The CUDA branch of this file follows ONNX Runtime's documentation and has NOT been run: no GPU was at hand.

Legend: B slots of one run, N all slots, S prompt tokens, L source tokens, T cache tokens, K key/value heads, h head
width, D width of the network, V vocabulary.
"""

import logging
from typing import Any

import numpy as np
import onnxruntime

from model.bundle import Bundle
from model.processors import available_cpus
from serving.engine.config import EngineConfig
from serving.engine.limits import Limits
from serving.engine.memory import CUDART, Block, States, cudart
from serving.engine.providers import CPU, check_provider, check_reach, node_counts, open_session, wanted_providers
from serving.errors import EngineFailed

log = logging.getLogger("serving.engine")

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
# Steps that a shorter bucket must have sufficed, so that mixed lengths do not copy sources back and forth.
SHRINK_AFTER = 8


class Runtime:
    """The graphs of one bundle with room for as many requests as ``config`` has slots, each within ``limits``.

    Attributes:
        token_ids: int64 [N, 1], the token that each slot feeds next.
        lengths: int32 [N], tokens already in each slot's cache.
        logits: float32 [N, V], results of the last ``decode``.
        provider: the execution provider that really runs.
        nodes: how many nodes of the decoder each provider runs.
        text_bytes: reserved for the KV cache, or the recurrent states.
        cache_bytes: those, and the cross-attention buffers.
        copies: whether slots can be copied (``share``, ``fork``): always on the CPU.
        dense: whether the engine has to keep slots 0..n-1 in use, without free ones.

    Raises:
        EngineFailed: when the demanded provider cannot be used or the graphs do not fit the bundle's manifest.
    """

    def __init__(self, bundle: Bundle, config: EngineConfig, limits: Limits) -> None:
        network, slots = bundle.config, config.slots
        self.cache_tokens = limits.context or limits.max_new_tokens
        self.seq2seq = bundle.family == "seq2seq"
        self.threads = config.threads or available_cpus()
        providers = wanted_providers(config.provider, bundle.precision)
        self._decoder = open_session(bundle.graph("decoder"), providers, self.threads, config.spin)
        demanded = config.provider != "auto"
        self.provider = check_provider(self._decoder, providers, demanded)
        self.nodes = node_counts(self._decoder)
        self._device = "cpu" if self.provider == CPU else "cuda"
        self.dense = self._device == "cpu"
        self.copies = self.dense or cudart() is not None

        types = {i.name: i.type for i in self._decoder.get_inputs()}
        self._inputs = frozenset(types)
        recurrent = network.decoder_mixer == "ssru"
        if recurrent and not self.copies:
            raise EngineFailed(f"{bundle.path}: a recurrent decoder needs {' or '.join(CUDART)} to clear its slots")
        self.cache_dtype = DTYPES[types["past_state_0" if recurrent else "past_key_0"]]
        if np.dtype(self.cache_dtype).name != bundle.cache_dtype:
            raise EngineFailed(
                f"{bundle.path}: bundle.json says cache_dtype {bundle.cache_dtype}, the decoder graph has "
                f"{np.dtype(self.cache_dtype).name}; export the bundle again"
            )
        layers = range(network.decoder_layers)
        parts = [f"{part}_{i}" for i in layers for part in ("key", "value")]
        if recurrent:
            states = [f"state_{i}" for i in layers]
            self._cache: Block = States(states, (slots, 1, network.d_model), self.cache_dtype, self._device)
        else:
            shape = (slots, network.kv_heads, self.cache_tokens, network.head_dim)
            self._cache = Block(parts, shape, self.cache_dtype, self._device)

        self.token_ids = np.zeros((slots, 1), np.int64)
        self.lengths = np.zeros(slots, np.int32)
        self._used = np.zeros(slots, np.int32)  # 1 or 0
        self.logits = np.zeros((slots, bundle.vocab_size), np.float32)
        self._total = np.array(1, np.int32)
        self._last = np.zeros(slots, np.int64)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._one = np.zeros((1, bundle.vocab_size), np.float32)
        self._seen = 0  # slots that ``_longest`` and ``_needed`` are about; 0 when one has changed since
        self._longest = 0  # tokens in the fullest of their caches

        self._bucket, self._needed, self._slack = 0, 0, 0
        self._cross: dict[int, Block] = {}  # of each bucket, growing
        self.source_lengths = np.ones(slots, np.int64)
        if self.seq2seq:
            shorter = [b for b in config.source_buckets if b < limits.max_prompt_tokens] if self.dense else []
            buckets = [*shorter, limits.max_prompt_tokens]
            self._bucket = buckets[0]
            chain = providers if self._device == "cuda" else [CPU]
            self._encoder = open_session(bundle.graph("encoder"), chain, self.threads, config.spin)
            check_provider(self._encoder, chain, demanded)
            dtype = DTYPES[types["cross_key_0"]]
            names = [f"cross_{part}" for part in parts]
            self._cross = {
                bucket: Block(names, (slots, network.kv_heads, bucket, network.head_dim), dtype, self._device)
                for bucket in buckets
            }
        self.text_bytes = self._cache.bytes
        self.cache_bytes = self.text_bytes + sum(block.bytes for block in self._cross.values())
        nodes = ", ".join(f"{count} on {name}" for name, count in self.nodes.items())
        text = "engine runs on %s (nodes: %s), %d threads, %d slots of %d tokens"
        log.info(text, self.provider, nodes, self.threads, slots, self.cache_tokens)

    def run_prompt(self, slot: int, prompt_S: np.ndarray) -> np.ndarray | None:
        """Run a prompt into ``slot``; logits float32 [1, V] of its last token in a decoder-only model."""
        if not self.seq2seq:
            return self.prefill(slot, prompt_S)
        self.encode(slot, prompt_S)
        return None

    def prefill(self, slot: int, prompt_S: np.ndarray, options: Any = None) -> np.ndarray:
        """Decoder-only: run a fresh prompt into the cache of ``slot``; logits float32 [1, V] of its last token."""
        size = len(prompt_S)
        ids, past = prompt_S.reshape(1, size), np.array([size - 1], np.int32)
        last = np.array([size - 1], np.int64)
        self._total[...] = size
        self._run(self._bind(slot, 1, ids, past, last, self._one), options)
        self._set(slot, size)
        return self._one.copy()

    def encode(self, slot: int, source_L: np.ndarray) -> None:
        """Seq2seq: encode a source into cross-attention keys and values of ``slot``; its cache is then empty."""
        size = len(source_L)
        if size > self._bucket:
            self._rebucket(next(bucket for bucket in self._cross if bucket >= size))
        target = self._cross[self._bucket]
        if self._device == "cpu":
            # At its own length: a source of 30 tokens already fills the matrix kernels, and padding to a neighbour's
            # length would cost more than the larger products save.
            for i, values in enumerate(self._encoder.run(target.names, _source(source_L))):
                target.values[i, slot, :, :size] = values[0]
        else:
            padded = np.zeros((1, self._bucket), np.int64)
            padded[0, :size] = source_L
            binding = self._encoder.io_binding()
            binding.bind_cpu_input("source_ids", padded)
            binding.bind_cpu_input("source_lengths", np.array([size], np.int64))
            for name, part in target.parts(slot, 1):
                binding.bind_output(name, *part)
            self._encoder.run_with_iobinding(binding)
            binding.synchronize_outputs()
        self.source_lengths[slot] = size
        self._set(slot, 0)

    def rehearse(self, bundle: Bundle, limits: Limits) -> None:
        """Run the longest case that a manifest promises, before anyone asks for it.

        A bundle whose graphs were made for fewer positions than ``bundle.json`` says loads, warms up and serves, until
        the first long text breaks the engine. So this runs one prompt of the most tokens that a request may have, and
        one decode at the last position of the cache, both with the highest id of the vocabulary.

        Raises:
            EngineFailed: when the graphs do not run at all, or only less than the manifest promises.
        """
        highest = bundle.vocab_size - 1
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4  # it may fail in silence
        if self._device == "cpu":  # whose arena then keeps nothing of what it took
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

        def run_prompt(size: int) -> None:
            prompt_S = np.full(size, highest, np.int64)
            if not self.seq2seq:
                self.prefill(0, prompt_S, options)
            elif self._device == "cpu":  # without touching any slot's source
                self._encoder.run(None, _source(prompt_S), options)
            else:
                self.encode(0, prompt_S)

        def run_step(size: int) -> None:
            self.token_ids[0] = highest
            self._set(0, size - 1)
            self.decode(1, options)

        role = "encoder" if self.seq2seq else "decoder"
        check_reach(bundle, role, "max_prompt_tokens", limits.max_prompt_tokens, run_prompt)
        check_reach(bundle, "decoder", "max_new_tokens", self.cache_tokens, run_step)
        self.clear(0)

    def decode(self, slots: int, options: Any = None) -> np.ndarray:
        """One token for slots 0..slots-1: feeds ``token_ids``, extends the caches; logits float32 [B, V], a view."""
        if slots != self._seen:
            self._look(slots)
        if self._needed < self._bucket:
            self._slack += 1
            if self._slack >= SHRINK_AFTER:
                self._rebucket(self._needed)
        self._longest += 1
        self._total[...] = self._longest
        key = (slots, self._bucket)
        logits = self.logits[:slots]
        binding = self._bindings.get(key) if self._device == "cpu" else None
        if binding is None:
            # On CUDA small inputs are copied when they are bound, so that a binding serves one step only.
            binding = self._bind(0, slots, self.token_ids[:slots], self.lengths[:slots], self._last[:slots], logits)
            self._bindings[key] = binding
        self._run(binding, options)
        lengths = self.lengths[:slots]
        lengths += self._used[:slots]  # a free one stays empty
        return logits

    def share(self, source: int, target: int, tokens: int) -> None:
        """Give slot ``target`` the source text of slot ``source`` and the first ``tokens`` of its cache."""
        self._cache.copy(source, target, tokens)
        if self.seq2seq:
            size = int(self.source_lengths[source])
            self._cross[self._bucket].copy(source, target, size)
            self.source_lengths[target] = size
        self._set(target, tokens)

    def fork(self, source: int, target: int) -> None:
        """Give slot ``target``, which has the same source text, the cache of slot ``source``."""
        length = int(self.lengths[source])
        self._cache.copy(source, target, length)
        self._set(target, length)

    def move(self, source: int, target: int) -> None:
        """Give slot ``target`` the state of slot ``source``, and clear that."""
        self.share(source, target, int(self.lengths[source]))
        self.token_ids[target] = self.token_ids[source]
        self.clear(source)

    def clear(self, slot: int) -> None:
        """Leave a slot without a request; a free one is decoded as an empty text of one source token."""
        self.token_ids[slot] = 0
        self.source_lengths[slot] = 1
        self._set(slot, 0, used=False)

    def _set(self, slot: int, length: int, used: bool = True) -> None:
        self.lengths[slot] = length
        self._used[slot] = used
        self._seen = 0
        if not length:
            self._cache.forget(slot)

    def _look(self, slots: int) -> None:
        """What a step needs to know of all slots; from one step to the next they only grow by one."""
        self._seen = slots
        self._longest = int(self.lengths[:slots].max())
        if self._bucket:
            longest = int(self.source_lengths[:slots].max())
            self._needed = next(b for b in self._cross if b >= longest)
            if self._needed == self._bucket:
                self._slack = 0

    def _rebucket(self, bucket: int) -> None:
        old, new = self._cross[self._bucket], self._cross[bucket]
        used = np.flatnonzero(self._used)
        slots = slice(0, int(used[-1]) + 1 if len(used) else 0)
        longest = int(self.source_lengths[slots].max(initial=0))
        new.values[:, slots, :, :longest] = old.values[:, slots, :, :longest]
        self._bucket, self._slack = bucket, 0

    def _bind(
        self, slot: int, slots: int, ids_BS: np.ndarray, past_B: np.ndarray, last_B: np.ndarray, logits_BV: np.ndarray
    ) -> Any:
        binding = self._decoder.io_binding()
        small = {"token_ids": ids_BS, "cache_lengths": past_B, "last_index": last_B}
        if self.seq2seq:
            small["source_lengths"] = self.source_lengths[slot : slot + slots]
        for name, array in {**small, "total_length": self._total}.items():
            if name in self._inputs:  # a recurrent decoder counts no positions
                binding.bind_input(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        for name, part in self._cache.parts(slot, slots):
            binding.bind_input(f"past_{name}", *part)
            binding.bind_output(f"present_{name}", *part)
        if self.seq2seq:
            for name, part in self._cross[self._bucket].parts(slot, slots):
                binding.bind_input(name, *part)
        binding.bind_output("logits", "cpu", 0, np.float32, list(logits_BV.shape), logits_BV.ctypes.data)
        return binding

    def _run(self, binding: Any, options: Any = None) -> None:
        self._decoder.run_with_iobinding(binding, options)
        if self._device != "cpu":
            binding.synchronize_outputs()


def _source(source_L: np.ndarray) -> dict[str, np.ndarray]:
    """One source as the encoder takes it."""
    size = len(source_L)
    return {"source_ids": source_L.reshape(1, size), "source_lengths": np.array([size], np.int64)}
