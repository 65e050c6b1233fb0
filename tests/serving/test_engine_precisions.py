"""fp16 and int8 bundles, and more than one key/value head: each request gets the same tokens alone and in company."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle import Bundle
from model.config import QuantizationConfig
from model.onnx.quantize import quantize_bundle
from serving.engine import Engine, EngineConfig, GenerationRequest
from serving.errors import EngineFailed
from tests.helpers.engines import talkative_bundle, tiny_corpus

CONFIG = EngineConfig(slots=5, prefill_tokens=60, threads=1, provider="cpu", source_buckets=[8, 16, 32])
CACHE = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """``bundles(family, precision, activation_scale)``: made once each, with two key/value heads."""
    folder = tmp_path_factory.mktemp("precisions")
    corpus = tiny_corpus(folder / "corpus")
    made = {}

    def get(family, precision, scale="row"):
        key = f"{family}-{precision}-{scale}"
        if key not in made:
            out = folder / key
            if precision == "fp32":
                # A translating decoder: its calibration corpus consists of pairs.
                mixer = {"decoder_mixer": "ssru"} if family == "ssru" else {}
                kind = "seq2seq" if mixer else family
                talkative_bundle(out, kind, 3, "translation", kv_heads=2, **mixer)
            else:
                config = QuantizationConfig(activation_scale=scale, calibration_rows=30)
                quantize_bundle(get(family, "fp32").path, corpus, out, precision, config)
            made[key] = Bundle.load(out)
        return made[key]

    return get


@pytest.mark.parametrize("family", ["seq2seq", "decoder", "ssru"])
@pytest.mark.parametrize(
    ("precision", "scale"), [("fp32", "row"), ("fp16", "row"), ("int8", "row"), ("int8", "static")]
)
def test_same_tokens_and_scores_alone_and_in_company(bundles, family, precision, scale):
    bundle = bundles(family, precision, scale)
    random = np.random.default_rng(0)
    with Engine(bundle, CONFIG) as engine:
        assert engine._runtime.cache_dtype == np.dtype("float32" if family == "ssru" else CACHE[precision])
        requests = [
            GenerationRequest(
                engine.prompt("мир abc. "[: int(random.integers(1, 9))] * int(random.integers(1, 6)), target="en"),
                max_tokens=int(random.integers(1, 16)),
                temperature=float(random.choice([0, 0, 0.9])),
                repetition_penalty=float(random.choice([1, 1, 1.2])),
                seed=i,
            )
            for i in range(40)
        ]
        if family != "decoder":
            searches = [replace(r, temperature=0.0, beams=2 + i % 3) for i, r in enumerate(requests[:8])]
            requests[::5] = searches
        alone = [engine.generate([request])[0] for request in requests]
        together = engine.generate(requests)
        assert [r.token_ids for r in together] == [r.token_ids for r in alone]
        assert len({tuple(r.token_ids) for r in alone}) > 20  # they do say different things
        prompts = [request.prompt_ids for request in requests]
        targets = [random.integers(8, bundle.vocab_size, random.integers(1, 12)).tolist() for _ in prompts]
        assert engine.score(prompts, targets) == [
            engine.score([p], [t])[0] for p, t in zip(prompts, targets, strict=True)
        ]


@pytest.mark.parametrize("family", ["seq2seq", "decoder", "ssru"])
def test_losses_of_the_precisions_are_close(bundles, family):
    def loss(precision):
        with Engine(bundles(family, precision), CONFIG) as engine:
            prompts = [engine.prompt(text, target="ru") for text in ("abc", "кот", "a b c")]
            targets = [engine.tokenizer.encode("мир и cat")] * 3
            return np.array(engine.score(prompts, targets))

    fp32 = loss("fp32")
    np.testing.assert_allclose(loss("fp16"), fp32, rtol=0.02)
    np.testing.assert_allclose(loss("int8"), fp32, rtol=0.2)
    assert not np.array_equal(loss("int8"), fp32)


def test_a_manifest_that_disagrees_with_the_graph_is_refused(bundles):
    bundle = bundles("decoder", "fp32")
    object.__setattr__(bundle, "cache_dtype", "int8")  # frozen, and hashed on disk: the only way to make them differ
    try:
        with pytest.raises(EngineFailed, match=r"says cache_dtype int8, the decoder graph has float32; export"):
            Engine(bundle, CONFIG).start()
    finally:
        object.__setattr__(bundle, "cache_dtype", "float32")


def promising(bundle: Bundle, out: Path, **changes: Any) -> Bundle:
    """The bundle with another manifest over the same graphs; its hashes hold."""
    shutil.copytree(bundle.path, out)
    manifest = json.loads((out / "bundle.json").read_text())
    (out / "bundle.json").write_text(json.dumps({**manifest, **changes}))
    return Bundle.load(out)


@pytest.mark.parametrize("family", ["seq2seq", "decoder"])
@pytest.mark.parametrize(
    ("precision", "scale"), [("fp32", "row"), ("fp16", "row"), ("int8", "row"), ("int8", "static")]
)
@pytest.mark.parametrize(
    ("limit", "other"), [("max_prompt_tokens", "max_new_tokens"), ("max_new_tokens", "max_prompt_tokens")]
)
def test_a_manifest_that_promises_more_than_the_graphs_can_do_is_refused_at_start(
    bundles, tmp_path, family, precision, scale, limit, other
):
    bundle = bundles(family, precision, scale)  # of 64 positions
    config = {**json.loads((bundle.path / "bundle.json").read_text())["config"], "max_positions": 512}
    for promised in (66, 512):
        limits = {limit: promised, other: 8}
        liar = promising(bundle, tmp_path / f"{promised}", limits=limits, config=config)
        role = "encoder" if (family, limit) == ("seq2seq", "max_prompt_tokens") else "decoder"
        expected = rf"limits\.{limit} {promised}, config\.max_positions 512.*the {role} graph runs at most 64"
        with pytest.raises(EngineFailed, match=expected):
            Engine(liar, CONFIG).start()
    honest = promising(bundle, tmp_path / "honest", limits={limit: 64 if family == "seq2seq" else 56, other: 8})
    with Engine(honest, CONFIG) as engine:
        size = engine.limits.max_prompt_tokens
        size -= 8 if engine.limits.context == size else 0
        assert engine.generate([GenerationRequest([9] * size, 8)])[0].error is None
        assert engine.stats()["kv_tokens"] == 0


def test_a_vocabulary_that_the_graphs_lack_is_refused(bundles, tmp_path):
    bundle = bundles("seq2seq", "fp32")
    with pytest.raises(EngineFailed, match=r"the tokenizer has \d+ ids, bundle.json says vocab_size 300"):
        Engine(promising(bundle, tmp_path / "less", vocab_size=300), CONFIG)
    with pytest.raises(EngineFailed, match=r"do not run"):
        Engine(promising(bundle, tmp_path / "more", vocab_size=400), CONFIG).start()
