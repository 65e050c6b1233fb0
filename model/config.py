"""Every setting of the factory, with its default, its range and one sentence.

Profiles (``pipelines/profiles/*.yaml``), the command lines and the pipeline's parameters are read into these.

    python -m model.config            # prints every setting with its default, its range and its sentence
    python -m model.config --schema   # a profile's JSON Schema, for editors
"""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from model.options import OK, Parser, run
from model.settings import (
    ConfigError,
    Count,
    Natural,
    Settings,
    Share,
    Threads,
    describe,
    from_dict,
    section,
    setting,
    to_dict,
)

__all__ = ["PRESETS", "ConfigError", "Profile", "from_dict", "to_dict"]
Language = Annotated[str, Field(pattern=r"^[^\s/<>]+$")]  # part of control tokens, and of a direction's name
Processors = Annotated[str, Field(pattern=r"^([0-9]*[.])?[0-9]+m?$")]  # as Kubernetes writes quantities
Memory = Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi|Ti)$")]
MAX_EXAMPLES = 32
MAX_BEAMS = 8
MAX_SHARDS = 64
Compared = Literal["fp16", "int8"]  # precisions that are held against fp32


class CorpusConfig(Settings):
    """How text becomes a clean, split corpus."""

    kind: Literal["parallel", "text"] = setting("parallel", "Sentence pairs, to translate, or running text, to go on.")
    languages: list[Language] = setting(["ru", "en"], "Language codes; for pairs, the order of the columns.")
    sources: list[str] = setting(
        [], "A profile's own text, for runs that are given none: files beside the profile's, or addresses."
    )
    max_rows: Natural = setting(0, "Stop after this many rows that survive cleaning; 0 means all.")
    valid_rows: Natural = setting(1000, "Rows held out to watch the training loss.")
    heldout_rows: Natural = setting(1000, "Rows held out for evaluation and never seen in training.")
    held_out_end: float = setting(
        0.0,
        "Share at the end of each file of running text that is held out, half for each of the two splits, of which "
        "valid_rows and heldout_rows are then the most; 0 holds out pieces from anywhere.",
        ge=0,
        lt=1,
    )
    max_chars: Count = setting(
        1000, "Rows with a longer side are rejected; running text is cut into pieces of this size.", "characters"
    )
    max_length_ratio: float = setting(
        3.0,
        "Pairs whose sides differ in length, weighed by script, by more than this are rejected, but for short ones.",
        ge=1,
    )
    min_script_ratio: Share = setting(
        0.5, "Share of letters that must be in the language's own scripts, where they are known."
    )
    max_foreign: Share = setting(
        0.9,
        "Pairs with a side that is in another language with a larger probability are rejected, where both languages "
        "share a script; 1 rejects none.",
    )
    leaks: Literal["exact", "form", "near"] = setting(
        "near",
        "What is not trained on: rows with a side that is held out or in a test set, as it is written, or in its "
        "normal form (without case, punctuation, ё and the value of numbers), or near to it.",
    )
    duplicates: Literal["exact", "form", "near"] = setting(
        "form", "Rows of which one is trained on: those that are equal, or in their normal form, or near to each other."
    )
    similarity: float = setting(
        0.8, "Texts are near from here on: the share of runs of five characters that they have in common.", ge=0.5, le=1
    )
    mask: bool = setting(
        False, "Whether e-mail addresses, IP addresses and phone numbers are replaced by those of documentation."
    )
    max_malformed: Share = setting(0.01, "The run stops when a larger share of the rows is malformed.")
    shard_rows: Count = setting(200000, "Rows per file of the train split.")
    processes: Threads = setting(
        0, "Processes for a large corpus, the same whatever their number; 0 takes the processors it may use."
    )
    # Left out of what is written where it says nothing: one shard is what there was before there were shards.
    shards: int = setting(
        1,
        "Parts of the text that the pipeline prepares side by side, each in a step of its own, to the same corpus; 1 "
        "is for what one machine can do.",
        ge=1,
        le=MAX_SHARDS,
        exclude_if=lambda shards: shards == 1,
    )
    seed: Natural = setting(0, "Seed of the split.")

    @field_validator("languages")
    @classmethod
    def _differ(cls, languages: list[str], info: ValidationInfo) -> list[str]:
        if len(set(languages)) < max(1, len(languages)):
            raise ValueError(f"must be different language codes such as ru and en, not [{', '.join(languages)}]")
        if info.data.get("kind") == "parallel" and len(languages) != 2:
            raise ValueError(f"sentence pairs are in two languages, not in [{', '.join(languages)}]")
        return languages

    @field_validator("shards")
    @classmethod
    def _read_all(cls, shards: int, info: ValidationInfo) -> int:
        if shards > 1 and (rows := info.data.get("max_rows")):
            raise ValueError(
                f"must be 1 beside corpus.max_rows={rows}, where reading stops: only who reads all before a row knows "
                "whether it is one of them; set corpus.max_rows=0, or corpus.shards=1"
            )
        return shards

    @field_validator("held_out_end")
    @classmethod
    def _of_text(cls, share: float, info: ValidationInfo) -> float:
        if share and info.data.get("kind") == "parallel":
            raise ValueError(
                "must be 0 for sentence pairs, of which random ones are held out (corpus.kind is parallel)"
            )
        return share


class TokenizerConfig(Settings):
    """How text becomes token ids."""

    kind: Literal["unigram", "bpe", "char"] = setting("unigram", "SentencePiece unigram or BPE, or single characters.")
    vocab_size: int = setting(8000, "Tokens, control tokens and 256 bytes too; a ceiling for char.", gt=256, le=1 << 20)
    character_coverage: float = setting(0.9995, "Share of the characters that get a piece of their own.", gt=0, le=1)
    sample_lines: Count = setting(400000, "Lines drawn from the corpus to train on.")
    seed: Natural = setting(0, "Seed of the sample.")


class NetworkConfig(Settings):
    """The shape of the transformer. The vocabulary comes from the tokenizer."""

    preset: Literal["custom", "prometheus-8m", "mini-gpt"] = setting("custom", "Where to start from.", exclude=True)
    family: Literal["seq2seq", "decoder"] = setting("seq2seq", "Encoder-decoder, or decoder-only.")
    d_model: int = setting(256, "Width of the residual stream.", ge=1, le=1 << 16)
    encoder_layers: int = setting(6, "Layers of the encoder; unused by the decoder-only family.", ge=0, le=1000)
    decoder_layers: int = setting(2, "Layers of the decoder: each one adds latency to every token.", ge=1, le=1000)
    heads: int = setting(4, "Query heads.", ge=1, le=1000)
    kv_heads: int = setting(1, "Key/value heads; 1 is multi-query attention.", ge=1, le=1000)
    head_dim: int = setting(64, "Width of one head, for the rotary kernels.", ge=16, le=1024, multiple_of=16)
    d_ff: int = setting(1264, "Width of the feed-forward layer (ReLU squared).", ge=1, le=1 << 20)
    max_positions: int = setting(256, "Longest source, and longest target or text.", "tokens", ge=1, le=1 << 20)
    rope_theta: float = setting(10000.0, "Base of the rotary positions.", gt=0, le=1e12)
    norm_eps: float = setting(1e-6, "Epsilon of every RMSNorm.", gt=0, le=1)
    dropout: float = setting(
        0.0, "Dropout on each sub-layer's output; worth having only beyond a few passes over the data.", ge=0, lt=1
    )
    # Left out of what is written where it says nothing new: older releases read that, and its bytes stay as they were.
    decoder_mixer: Literal["attention", "ssru"] = setting(
        "attention",
        "How a seq2seq decoder reads its own text: attention over all of it, or ssru, a recurrent unit of d_model.",
        exclude_if=lambda mixer: mixer == "attention",
    )
    head_counts: dict[str, Count] = setting(
        {},
        "Query heads of blocks with fewer than the others, as {encoder.0.attention: 3}, which model.pruning writes.",
        exclude_if=lambda counts: not counts,
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and str(data.get("preset")) in PRESETS:
            return PRESETS[data["preset"]] | data | {"preset": "custom"}
        return data

    @field_validator("encoder_layers")
    @classmethod
    def _encodes(cls, layers: int, info: ValidationInfo) -> int:
        if not layers and info.data.get("family") == "seq2seq":
            raise ValueError("a seq2seq network needs at least one encoder layer")
        return layers

    @field_validator("decoder_mixer")
    @classmethod
    def _has_a_source(cls, mixer: str, info: ValidationInfo) -> str:
        if mixer == "ssru" and info.data.get("family") == "decoder":
            raise ValueError("ssru is for seq2seq networks: a prompt of the decoder family is read by attention")
        return mixer

    @field_validator("head_counts")
    @classmethod
    def _are_there(cls, counts: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        data, wrong = info.data, list[str]()
        if counts.keys() and {"heads", "kv_heads", "encoder_layers", "decoder_layers"} <= data.keys():
            known = _attention_blocks(data)
            wrong = [f"{block} is no block of attention of this network" for block in counts if block not in known]
            wrong += [
                f"{block} has {count} heads, which must be a multiple of kv_heads ({data['kv_heads']}), below heads "
                f"({data['heads']})"
                for block, count in counts.items()
                if count % data["kv_heads"] or count >= data["heads"]
            ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return counts

    def heads_of(self, block: str) -> int:
        """Query heads of a block of attention by its name, as ``decoder.0.cross``."""
        return self.head_counts.get(block, self.heads)

    @property
    def attention_blocks(self) -> list[str]:
        """Names of all blocks of attention."""
        return _attention_blocks(dict(self))

    @field_validator("kv_heads")
    @classmethod
    def _share(cls, kv_heads: int, info: ValidationInfo) -> int:
        if (heads := info.data.get("heads", kv_heads)) % kv_heads:
            raise ValueError(f"heads ({heads}) must be a multiple of kv_heads ({kv_heads})")
        return kv_heads


def _attention_blocks(network: dict[str, Any]) -> list[str]:
    """Names of the blocks of attention of a network of these settings."""
    seq2seq, mixer = network.get("family") == "seq2seq", network.get("decoder_mixer")
    blocks = [f"encoder.{i}.attention" for i in range(network["encoder_layers"] if seq2seq else 0)]
    kinds = [*(["attention"] if mixer == "attention" else []), *(["cross"] if seq2seq else [])]
    return blocks + [f"decoder.{i}.{kind}" for i in range(network["decoder_layers"]) for kind in kinds]


class TrainingConfig(Settings):
    """How the network is trained. The schedule is counted in steps, so that a seed gives one and the same run."""

    steps: Count = setting(2000, "Optimiser steps; the learning rate's schedule is fitted to them.")
    batch_tokens: Count = setting(4096, "Padded tokens per side and per micro-batch, bucketed by length.")
    grad_accum_steps: Count = setting(1, "Micro-batches per optimiser step; several processes share them out.")
    schedule: Literal["stable-decay", "cosine"] = setting("stable-decay", "Flat, then linear to the end, or cosine.")
    warmup_steps: Natural = setting(60, "Steps of linear warm-up.")
    warmdown_fraction: Share = setting(0.4, "Share of the steps, the last, in which the stable-decay schedule falls.")
    final_lr_fraction: Share = setting(0.05, "Final learning rate as a share of the peak.")
    muon_lr: float = setting(0.02, "Peak learning rate of Muon, which trains the matrices.", gt=0, le=10)
    muon_weight_decay: float = setting(0.01, "Weight decay of Muon.", ge=0, le=10)
    adam_lr: float = setting(3e-3, "Peak learning rate of AdamW, which trains embeddings and norms.", gt=0, le=10)
    grad_clip: float = setting(0.0, "Gradient-norm ceiling; 0 leaves gradients alone (Muon normalises its own).", ge=0)
    label_smoothing: float = setting(
        0.0, "Label smoothing; worth having only beyond a few passes over the data.", ge=0, lt=1
    )
    author_dropout: Share = setting(0.3, "Share of authored examples shown without their author token.")
    domain_dropout: Share = setting(
        1.0, "Share of the rows of a domain shown without their domain token; 1 never shows it, and it is not learned."
    )
    typed_share: Share = setting(
        0.5,
        "Share of sources shown as most people type them, with е for ё and plain quotation marks; answers keep both.",
    )
    join_share: Share = setting(
        0.0, "Share of translation examples that are two or three rows joined by a space, as far as they fit."
    )
    domain_weights: dict[str, Annotated[float, Field(ge=0, le=100)]] = setting(
        {}, "How often a pass shows the rows of a domain, for example {gettext: 0.35}; 1 where nothing is said."
    )
    eval_every: Count = setting(200, "Steps between validations.")
    best: Literal["loss", "chrf"] = setting(
        "loss", "What tells the best weights, and patience: validation loss, or chrF of greedy translations."
    )
    chrf_rows: Count = setting(200, "Validation rows that are translated each time where best is chrf.")
    patience: Natural = setting(0, "Validations without improvement before stopping early; 0 never stops.")
    save_every: Count = setting(200, "Steps between checkpoints that a killed run resumes from.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "Mixed precision; auto takes what the hardware has."
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where to train; auto takes a GPU that works.")
    activations: Literal["kept", "recomputed"] = setting(
        "kept", "What a layer computed is kept for its gradients, or computed again: less memory, a third more time."
    )
    threads: Threads = setting(0, "CPU threads; 0 takes the processors this process may use.")
    seed: Natural = setting(0, "Seed of the weights and of the order of the data.")


def fit_warmup(training: TrainingConfig) -> tuple[TrainingConfig, str]:
    """The settings, with a warm-up that ends in a tenth of the steps where it would not end before them, told if so."""
    if training.warmup_steps < training.steps:
        return training, ""
    fitted = training.model_copy(update={"warmup_steps": training.steps // 10})
    return fitted, (
        f"training.warmup_steps is {fitted.warmup_steps} instead of {training.warmup_steps}, for training.steps is "
        f"{training.steps}: the learning rate would not have reached its peak"
    )


class DistillationConfig(Settings):
    """Whose translations the network learns: its text's own, or a teacher's."""

    teacher: str = setting(
        "", "A run, its bundle, or the address of one, whose translations the network learns; empty: its text's own."
    )
    teacher_steps: Natural = setting(
        0, "Steps in which this run trains a teacher, with all else of section training; 0 trains none."
    )
    teacher_network: dict[str, Any] = setting(
        {"d_model": 384, "heads": 6, "d_ff": 1896, "decoder_layers": 4},
        "What of section network is otherwise in a teacher that this run trains.",
    )
    beams: int = setting(
        1, "Width of the search that the teacher translates with; 1 is greedy, several take a multiple of its time.",
        ge=1, le=MAX_BEAMS,
    )  # fmt: skip
    keep_original: Share = setting(0.0, "Share of the text's own translations that stay, and are learned as they are.")

    @property
    def wanted(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.teacher or self.teacher_steps)

    @model_validator(mode="after")
    def _has_one_teacher(self) -> Self:
        if self.teacher and self.teacher_steps:
            raise ValueError(
                f"teacher: {self.teacher} is to teach, and teacher_steps={self.teacher_steps} would train another: "
                "leave one of the two out"
            )
        return self


class QuantizationConfig(Settings):
    """How weights and activations lose bits."""

    activation_scale: Literal["row", "static"] = setting(
        "static", "One scale per tensor, calibrated, or one per row, computed; neither depends on the batch."
    )
    calibration_rows: Count = setting(256, "Rows of the valid split used to calibrate scales.")


class EvaluationConfig(Settings):
    """What is measured on every variant, through the serving engine."""

    max_rows: Natural = setting(0, "Rows per test set and direction; 0 means all.")
    varied_rows: Natural = setting(
        200, "Rows per test set and direction that are translated once more dirty, and in pairs; 0 leaves that out."
    )
    beams: int = setting(
        4,
        "Width of the beam search that translates every test set once more, beside greedy; 0 and 1 leave that out.",
        ge=0,
        le=MAX_BEAMS,
    )
    beam_variants: list[Literal["fp32", "fp16", "int8"]] = setting(
        ["int8"], "Precisions that it is measured on: what is published, as it takes several times as long as greedy."
    )
    loss_rows: Count = setting(500, "Held-out rows whose loss is measured.")
    speed_tokens: Count = setting(64, "Tokens per row in the speed measurement.")
    samples: Natural = setting(8, "Translations per test set kept for people to read.")
    examples: int = setting(
        8, "Held-out texts in the bundle, for all who open its page to read; 0 is none.", ge=0, le=MAX_EXAMPLES
    )
    about: str = setting(
        "", "What the bundle says that it was trained on; empty is its text's size and names.", pattern="^.{0,300}$"
    )
    threads: Threads = setting(1, "Engine threads, see serving; 0 takes the processors this process may use.")


class GateConfig(Settings):
    """What a variant must reach to be published."""

    max_chrf_loss: dict[Compared, Annotated[float, Field(ge=0)]] = setting(
        {"fp16": 0.01, "int8": 0.05}, "Share of its chrF that a variant may lose against fp32."
    )
    max_bytes_ratio: dict[Compared, Annotated[float, Field(gt=0)]] = setting(
        {"int8": 0.5}, "Bytes of a variant as a share of fp32's."
    )
    min_chrf: dict[str, Annotated[float, Field(ge=0, le=100)]] = setting(
        {}, "Absolute chrF floors by 'test set/direction', for example 'heldout/ru-en'."
    )
    max_loss: float = setting(
        0.0, "Ceiling of the held-out loss, where there is no translation to score; 0 is none.", "nats per token", ge=0
    )
    default_beams: int = setting(
        0,
        "Beams of the published bundle where a request names none; 1 is greedy, 0 goes by what evaluation.beams gain.",
        ge=0,
        le=MAX_BEAMS,
    )
    min_beam_gain: float = setting(
        0.3, "chrF that beams must gain over greedy, as a mean over all test sets, to become the default.", ge=0, le=100
    )


class ResourcesConfig(Settings):
    """What a cluster is asked for; a run on this machine takes what there is."""

    cpu: Processors = setting("250m", "Share of a processor that each step is promised, but for training.")
    memory: Memory = setting("2Gi", "Memory that each step is promised and held to, but for training.")
    train_cpu: Processors = setting("1", "Processors that training is promised; it takes what is free beside them.")
    train_memory: Memory = setting("6Gi", "Memory that training is promised and held to.")
    gpus: Natural = setting(0, "GPUs that training asks for, each of them for a process of its own.")
    machine: Literal["cpu", "gpu"] = setting(
        "cpu", "What the published bundle will be served on; for gpu, fp16 is measured on one."
    )
    node_selector: dict[str, str] = setting({}, "Labels of the nodes for training, and for measuring fp16.")
    tolerations: list[dict[str, Any]] = setting(
        [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], "Taints that these two bear."
    )


class Profile(Settings):
    """A whole run's settings: one YAML file in pipelines/profiles."""

    name: str = setting("custom", "Name of the profile, as shown in reports.")
    corpus: CorpusConfig = section(CorpusConfig, "Preparing the text.")
    tokenizer: TokenizerConfig = section(TokenizerConfig, "Training the tokenizer.")
    network: NetworkConfig = section(NetworkConfig, "The network's shape; preset: NAME starts from a named one.")
    training: TrainingConfig = section(TrainingConfig, "Training.")
    distillation: DistillationConfig = section(DistillationConfig, "Learning from a teacher, if any.")
    quantization: QuantizationConfig = section(QuantizationConfig, "Quantization.")
    evaluation: EvaluationConfig = section(EvaluationConfig, "Evaluation.")
    gate: GateConfig = section(GateConfig, "Gates.")
    resources: ResourcesConfig = section(ResourcesConfig, "What a cluster is asked for.")

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.resources.gpus and self.training.grad_accum_steps % self.resources.gpus:
            raise ValueError(
                f"training.grad_accum_steps: {self.training.grad_accum_steps} micro-batches cannot be shared out among "
                f"resources.gpus={self.resources.gpus}: make it a multiple of them, and training.batch_tokens smaller"
            )
        return self

    @model_validator(mode="after")
    def _can_search(self) -> Self:
        if self.gate.default_beams > 1 and self.network.family == "decoder":
            raise ValueError(
                f"gate.default_beams: {self.gate.default_beams} beams are for network.family seq2seq; leave it at 0"
            )
        return self

    @model_validator(mode="after")
    def _translates(self) -> Self:
        if self.training.best == "chrf" and self.network.family == "decoder":
            raise ValueError("training.best: chrf is for network.family seq2seq; leave it at loss")
        return self

    @property
    def teacher_network(self) -> NetworkConfig:
        """The shape of a teacher that the run trains.

        Raises:
            ConfigError: where it can be none.
        """
        changed = to_dict(self.network) | self.distillation.teacher_network
        return from_dict(NetworkConfig, changed, "distillation.teacher_network")

    @property
    def teacher_training(self) -> TrainingConfig:
        """How the run trains a teacher."""
        return self.training.model_copy(update={"steps": self.distillation.teacher_steps})

    @model_validator(mode="after")
    def _is_taught(self) -> Self:
        asked, wrong = self.distillation, list[str]()
        if asked.wanted and self.corpus.kind == "text":
            wrong.append("distillation: a teacher translates, and running text (corpus.kind text) has no translation")
        if asked.teacher_steps:
            try:
                network = self.teacher_network
                if asked.beams > 1 and network.family == "decoder":
                    wrong.append("distillation.beams: several are for network.family seq2seq; leave it at 1")
            except ConfigError as error:
                wrong += str(error).splitlines()
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


PRESETS: dict[str, dict[str, Any]] = {
    # 8,870,144 parameters with an 8,000-piece vocabulary: deep encoder, shallow decoder, multi-query attention.
    "prometheus-8m": {},
    # Character model in the shape of nanoGPT's CPU recipe (README: 4 layers, 128 wide), with our layers.
    "mini-gpt": {"family": "decoder", "d_model": 128, "decoder_layers": 4, "heads": 2, "d_ff": 640},
}


def parser() -> Parser:
    """The command line."""
    made = Parser("model.config", "Print every setting.")
    made.add_argument("--schema", action="store_true", help="a profile's JSON Schema instead, for editors")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the settings."""
    schema = parser().parse_args(argv).schema
    print(json.dumps(Profile.model_json_schema(), indent=1) if schema else "\n".join(describe(Profile)))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
