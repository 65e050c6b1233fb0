"""What is compared: the two networks, the workloads, and how every engine expresses the networks.

Read by the workers of both environments (ours and the one of the other engines), so it needs nothing but NumPy.

All engines run networks of one size (same layers, width, heads, vocabulary; parameters within 1 %) with random weights
on the same random prompts, greedily, to the same fixed lengths. What they cannot express alike is said in ``NOTES``
and stands in the results. The end token cannot win: its embedding, which is its output row too, is a hundredth of the
others in ours; CTranslate2, Hugging Face and onnxruntime-genai are told the least length.

Legend: B requests of one batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

VOCABULARY = 8192
PAD, UNK, BOS, EOS = 0, 1, 2, 3
CONTROL_TOKENS = 6  # those four and two languages
FIRST_TEXT_TOKEN = 300  # below lie control tokens and bytes
POSITIONS = 256
_IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}

# Ours, as NetworkConfig takes them. The sequence-to-sequence network is the one that profile `small` trains; the
# decoder has four layers of 384 in place of eight of 256, which is the better shape for every engine here.
NETWORKS: dict[str, dict[str, Any]] = {
    "seq2seq": {
        "family": "seq2seq", "d_model": 256, "encoder_layers": 6, "decoder_layers": 2, "heads": 4, "kv_heads": 1,
        "head_dim": 64, "d_ff": 1264, "max_positions": POSITIONS,
    },
    "decoder": {
        "family": "decoder", "d_model": 384, "encoder_layers": 0, "decoder_layers": 4, "heads": 6, "kv_heads": 1,
        "head_dim": 64, "d_ff": 1248, "max_positions": POSITIONS,
    },
}  # fmt: skip
NOTES = {
    "ours": "serving.engine.Engine with its default settings, one thread: continuous batching, 64 slots, ReLU^2",
    "ours-int8-row": "int8 weights, int8 cache, one activation scale per row",
    "ours-int8-static": "the default: int8 weights, int8 cache, calibrated activation scales",
    "ours-fp32": "float32 throughout",
    "ct2-int8": "CTranslate2, our own layers (pre-norm RMSNorm, multi-query attention, rotary positions, q/k norms) "
    "but for what it lacks: ReLU for ReLU^2, no q/k norms in cross-attention",
    "ct2-hf-int8": "CTranslate2 as its converter makes it: Marian (multi-head, post-norm with biases, sinusoidal "
    "positions, ReLU, narrower feed-forward) or Llama (SwiGLU, no q/k norms)",
    "genai-int4": "onnxruntime-genai's model builder, int4: Llama, as above",
    "hf": "transformers' generate, float32: Marian or Llama, as above",
    "torch": "PyTorch, float32: our own layers in a hand-written greedy loop over a static cache",
}
OURS = ("ours-int8-row", "ours-int8-static", "ours-fp32")
OTHERS = ("ct2-int8", "ct2-hf-int8", "genai-int4", "hf", "torch")
# genai has no encoder-decoder of this kind; only CTranslate2 is asked for the mixed requests.
ENGINES = {
    "seq2seq": (*OURS, "ct2-int8", "ct2-hf-int8", "hf", "torch"),
    "decoder": (*OURS, *OTHERS),
}
MIXED_MODES = {
    **dict.fromkeys(OURS, ("continuous",)),
    "ct2-int8": ("padded", "ideal"),
    "ct2-hf-int8": ("padded", "ideal"),
}


@dataclass(frozen=True)
class Scale:
    """How much is run: the real thing, or the tests' miniature."""

    prompt: dict[str, int]  # tokens of a prompt, by family
    output: dict[str, int]  # tokens generated from it
    batches: tuple[int, ...]
    requests: int  # of the mixed workload
    mixed_prompt: tuple[int, int]  # least and most
    mixed_output: tuple[int, int]
    mixed_batch: int  # of the engines that batch statically
    networks: dict[str, dict[str, Any]]
    least_seconds: float  # of one measurement: what takes less is run several times in a row


FULL = Scale(
    prompt={"seq2seq": 64, "decoder": 32},
    output={"seq2seq": 50, "decoder": 100},
    batches=(1, 8, 32),
    requests=100,
    mixed_prompt=(8, 64),
    mixed_output=(10, 150),
    mixed_batch=32,
    networks=NETWORKS,
    least_seconds=0.25,
)
_TINY = {"d_model": 64, "decoder_layers": 1, "heads": 4, "head_dim": 16, "d_ff": 192, "max_positions": 32}
TINY = Scale(
    prompt={"seq2seq": 6, "decoder": 4},
    output={"seq2seq": 5, "decoder": 6},
    batches=(1, 3),
    requests=7,
    mixed_prompt=(2, 6),
    mixed_output=(2, 9),
    mixed_batch=3,
    networks={
        family: {**network, **_TINY, "encoder_layers": min(1, network["encoder_layers"])}
        for family, network in NETWORKS.items()
    },
    least_seconds=0.0,
)
SCALES = {"full": FULL, "tiny": TINY}


def llama(network: dict[str, Any]) -> dict[str, Any]:
    """LlamaConfig of the same size: a gated feed-forward has three matrices, so two thirds of the width each."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": network["d_model"],
        "intermediate_size": network["d_ff"] * 2 // 3,
        "num_hidden_layers": network["decoder_layers"],
        "num_attention_heads": network["heads"],
        "num_key_value_heads": network["kv_heads"],
        "head_dim": network["head_dim"],
        "max_position_embeddings": 2 * network["max_positions"],
        "tie_word_embeddings": True,
        **_IDS,
    }


def marian(network: dict[str, Any]) -> dict[str, Any]:
    """MarianConfig of the same size: every query head has its own keys and values, paid for by the feed-forward."""
    encoder, decoder = network["encoder_layers"], network["decoder_layers"]
    more = network["head_dim"] * (network["heads"] - network["kv_heads"]) * (encoder + 2 * decoder)
    width = network["d_ff"] - more // (encoder + decoder)
    return {
        "vocab_size": VOCABULARY,
        "decoder_vocab_size": VOCABULARY,
        "d_model": network["d_model"],
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "encoder_attention_heads": network["heads"],
        "decoder_attention_heads": network["heads"],
        "encoder_ffn_dim": width,
        "decoder_ffn_dim": width,
        "max_position_embeddings": 2 * network["max_positions"],
        "activation_function": "relu",
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "dropout": 0.0,
        "decoder_start_token_id": BOS,
        "forced_eos_token_id": None,
        **_IDS,
    }


@dataclass(frozen=True)
class Workload:
    """Prompts and how many tokens each is continued by, in the order of arrival."""

    prompts: list[list[int]]
    outputs: list[int]

    @property
    def tokens(self) -> int:
        """Useful tokens of the whole workload."""
        return sum(self.outputs)


def batch_workload(scale: Scale, family: str, batch: int) -> Workload:
    """B prompts of one length, continued by one length."""
    prompts = _random_prompts(np.full(batch, scale.prompt[family]), seed=batch)
    return Workload(prompts, [scale.output[family]] * batch)


def mixed_workload(scale: Scale) -> Workload:
    """Concurrent requests, prompt and output lengths uniform and independent."""
    random = np.random.default_rng(0)
    prompts = random.integers(scale.mixed_prompt[0], scale.mixed_prompt[1] + 1, scale.requests)
    outputs = random.integers(scale.mixed_output[0], scale.mixed_output[1] + 1, scale.requests)
    return Workload(_random_prompts(prompts, seed=1), outputs.tolist())


def static_batches(workload: Workload, size: int, mode: str) -> list[Workload]:
    """How an engine without continuous batching runs mixed requests.

    ``padded`` takes them as they came, each batch running on to its longest output: what a server in front of such an
    engine does. ``ideal`` knows all lengths beforehand: requests sorted by output, each batch run for the mean of its
    outputs, so that no step is wasted; a bound that no server can reach.
    """
    order = list(range(len(workload.prompts)))
    if mode == "ideal":
        order.sort(key=lambda i: workload.outputs[i])
    batches = []
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        outputs = [workload.outputs[i] for i in chosen]
        length = max(outputs) if mode == "padded" else round(sum(outputs) / len(outputs))
        batches.append(Workload([workload.prompts[i] for i in chosen], [length] * len(chosen)))
    return batches


def _random_prompts(lengths: np.ndarray, seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(FIRST_TEXT_TOKEN, VOCABULARY - 1, length).tolist() for length in lengths.tolist()]
