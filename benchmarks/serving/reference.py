"""The other engines' models: random weights in their own formats. Runs in the environment of requirements/bench.lock.

    .venv-bench/bin/python -m benchmarks.serving.reference build/bench-serving     # `make bench-serving` does it

``models.py`` has to run before: CTranslate2's version of our own layers is converted from its ``weights.safetensors``.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch
import transformers
from ctranslate2.converters.transformers import LlamaLoader, MarianMTLoader
from ctranslate2.specs import common_spec, transformer_spec
from safetensors import safe_open

from benchmarks.serving.shapes import SCALES, VOCABULARY, llama, marian
from model.options import OK, Parser, run

TOKENS = ["<pad>", "<unk>", "<s>", "</s>", *(f"t{i}" for i in range(4, VOCABULARY))]
WEIGHT_STD = 0.05


def hugging_face(out: Path, network: dict[str, Any]) -> torch.nn.Module:
    """A Marian or a Llama of random weights, saved with a tokenizer of as many words."""
    torch.manual_seed(0)
    if network["family"] == "seq2seq":
        model = transformers.MarianMTModel(transformers.MarianConfig(**marian(network)))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama(network)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.requires_grad_(False)
            if weight.dim() > 1 and "embed_positions" not in name:
                weight.normal_(0, WEIGHT_STD)
    model.eval().save_pretrained(out)
    _tokenizer().save_pretrained(out)
    return model


def converted(out: Path, model: Any, family: str) -> None:
    """CTranslate2 int8 by the loader of its own converter."""
    kind = MarianMTLoader if family == "seq2seq" else LlamaLoader
    # The loader is told the words instead of reading them from a tokenizer, which it would want to download.
    spec = kind().get_model_spec(model)
    _save(spec, out, TOKENS[: _vocabulary(spec)], epsilon=None if family == "seq2seq" else model.config.rms_norm_eps)


def own_layers(out: Path, weights_file: Path, quantization: str | None = "int8") -> None:
    """CTranslate2 int8 of our own network, but for what it lacks, which makes its work a little less than ours.

    That is ReLU^2 (ReLU takes its place) and the q/k norms of the cross-attention (it norms all heads as one vector
    there, and reads beyond the gains).
    """
    with safe_open(str(weights_file), "np") as file:
        network = json.loads(file.metadata()["network"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    layout = {
        "num_heads": network["heads"], "pre_norm": True, "activation": common_spec.Activation.RELU, "rms_norm": True,
        "num_heads_kv": network["kv_heads"], "head_dim": network["head_dim"], "rotary_dim": 0,
        "rotary_interleave": False, "qk_norm": True,
    }  # fmt: skip
    cross = network["family"] == "seq2seq"
    decoder = transformer_spec.TransformerDecoderSpec(network["decoder_layers"], with_encoder_attention=cross, **layout)
    _fill(decoder, decoder.embeddings, weights, "decoder", cross)
    decoder.projection.weight = weights["embedding.weight"]
    if cross:
        encoder = transformer_spec.TransformerEncoderSpec(
            network["encoder_layers"], multi_query_attention=network["kv_heads"] == 1, **layout
        )
        delattr(encoder, "position_encodings")  # rotary positions are inside of the attention
        _fill(encoder, encoder.embeddings[0], weights, "encoder", False)
        spec: Any = transformer_spec.TransformerSpec(encoder, decoder)
    else:
        spec = transformer_spec.TransformerDecoderModelSpec(decoder)
    _save(spec, out, TOKENS, network["norm_eps"], quantization)


def int4(out: Path, source: Path) -> None:
    """onnxruntime-genai's int4 by its own model builder."""
    cache = out.with_name(f"{out.name}-cache")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-o", str(out)]
    done = subprocess.run(
        [*command, "-p", "int4", "-e", "cpu", "-c", str(cache)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"onnxruntime-genai's model builder failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    shutil.rmtree(cache, ignore_errors=True)


def _fill(side: Any, embeddings: Any, weights: dict[str, np.ndarray], name: str, cross: bool) -> None:
    side.scale_embeddings = True
    embeddings.weight = weights["embedding.weight"]
    side.layer_norm.gamma = weights[f"{name}.norm.weight"]
    for i, layer in enumerate(side.layer):
        prefix = f"{name}.layers.{i}"
        attention = layer.self_attention
        attention.layer_norm.gamma = weights[f"{prefix}.attention_norm.weight"]
        attention.linear[0].weight = np.concatenate(
            [weights[f"{prefix}.attention.query.weight"], weights[f"{prefix}.attention.kv.weight"]]
        )
        attention.linear[1].weight = weights[f"{prefix}.attention.out.weight"]
        attention.q_norm.gamma = weights[f"{prefix}.attention.query_norm.weight"]
        attention.k_norm.gamma = weights[f"{prefix}.attention.key_norm.weight"]
        if cross:
            layer.attention.layer_norm.gamma = weights[f"{prefix}.cross_norm.weight"]
            layer.attention.linear[0].weight = weights[f"{prefix}.cross.query.weight"]
            layer.attention.linear[1].weight = weights[f"{prefix}.cross.kv.weight"]
            layer.attention.linear[2].weight = weights[f"{prefix}.cross.out.weight"]
            delattr(layer.attention, "q_norm")
            delattr(layer.attention, "k_norm")
        layer.ffn.layer_norm.gamma = weights[f"{prefix}.ffn_norm.weight"]
        layer.ffn.linear_0.weight = weights[f"{prefix}.ffn.up.weight"]
        layer.ffn.linear_1.weight = weights[f"{prefix}.ffn.down.weight"]


def _save(spec: Any, out: Path, words: list[str], epsilon: float | None, quantization: str | None = "int8") -> None:
    if hasattr(spec, "register_source_vocabulary"):
        spec.register_source_vocabulary(words)
        spec.register_target_vocabulary(words)
        spec.config.decoder_start_token = "<s>"
    else:
        spec.register_vocabulary(words)
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "<unk>", "<s>", "</s>"
    spec.config.layer_norm_epsilon = epsilon
    spec.validate()
    spec.optimize(quantization=quantization)
    out.mkdir(parents=True)
    spec.save(str(out))


def _vocabulary(spec: Any) -> int:
    return int(spec.decoder.embeddings.weight.shape[0])  # Marian's loader drops the last word, taking it for padding


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(TOKENS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def parser() -> Parser:
    """Where to, and how large."""
    made = Parser("benchmarks.serving.reference", __doc__)
    made.add_argument("out", type=Path, help="where a folder for each family is made")
    made.add_argument("--scale", choices=sorted(SCALES), default="full", help="tiny is for the tests")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the models of every family."""
    arguments = parser().parse_args(argv)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for family, network in SCALES[arguments.scale].networks.items():
        folder = arguments.out / family
        for name in ("hf", "ct2-int8", "ct2-hf-int8", "genai-int4"):
            shutil.rmtree(folder / name, ignore_errors=True)
        model = hugging_face(folder / "hf", network)
        print(f"{family}: {sum(p.numel() for p in model.parameters()):,} parameters in Hugging Face's form")
        converted(folder / "ct2-hf-int8", model, family)
        own_layers(folder / "ct2-int8", folder / "weights.safetensors")
        if family == "decoder":
            int4(folder / "genai-int4", folder / "hf")
    print(f"ctranslate2 {ctranslate2.__version__}")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
