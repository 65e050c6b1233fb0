"""The engine on real ONNX Runtime sessions: results that do not depend on company, texts and their ends, the border.

The bundles have random weights and are made by the real export; see tests/helpers/engines.py.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.config import ConfigError, from_dict
from serving.engine import EngineConfig, GenerationRequest
from serving.errors import InvalidRequest
from tests.helpers.engines import PATIENCE, Call, nothing_is_left, prompt
from tests.helpers.runner import Runner

# -- the same alone and in company --------------------------------------------------------------------------------

requests = st.fixed_dictionaries(
    {
        "text": st.text("абвгд abc.", min_size=0, max_size=40),
        "max_tokens": st.integers(1, 20),
        "sampling": st.sampled_from(
            [
                {},
                {},
                {"repetition_penalty": 1.3},
                {"temperature": 1.0, "seed": 5},
                {"temperature": 1.4, "seed": 6, "top_k": 12},
                {"temperature": 0.8, "seed": 7, "top_p": 0.7, "repetition_penalty": 1.1},
                {"temperature": 2.0, "seed": 8, "min_p": 0.1},
                {"frequency_penalty": 0.8},
                {"temperature": 1.2, "seed": 9, "frequency_penalty": -0.5, "logprobs": 3},
                {"logprobs": 2},
                {"beams": 2},
                {"beams": 3, "length_penalty": 0.5, "stop": ("а", "c")},
                {"beams": 4, "repetition_penalty": 1.2, "length_penalty": 2.0},
            ]
        ),
        "arrives": st.integers(0, 60),  # after so many tokens of all requests together
        "cancel_at": st.sampled_from([None, None, None, 1, 3]),  # after so many tokens of its own
        "stream": st.booleans(),
    }
)


def of(engine, spec):
    """The request of a spec; a decoder-only model has no beams."""
    sampling = dict(spec["sampling"])
    if engine.bundle.family == "decoder":
        sampling.pop("beams", None)
    return GenerationRequest(prompt(engine, spec["text"]), spec["max_tokens"], **sampling)


def run_mix(engine, specs):
    """Submit each request in the engine thread itself when its time has come: no luck in the order of events."""
    calls, tokens, waiting = {}, [0], sorted(range(len(specs)), key=lambda i: specs[i]["arrives"])
    lock = threading.RLock()

    def admit(force=False):
        with lock:
            while waiting and (force or specs[waiting[0]]["arrives"] <= tokens[0]):
                i, force = waiting.pop(0), False
                calls[i] = Call(
                    engine, of(engine, specs[i]), lambda call, i=i: on_token(call, specs[i]), specs[i]["stream"]
                )

    def on_token(call, spec):
        tokens[0] += 1
        if spec["cancel_at"] is not None and len(call.events) >= spec["cancel_at"]:
            call.cancel()
        admit()

    while len(calls) < len(specs):
        admit(force=True)  # whenever the engine has run dry
        for call in list(calls.values()):
            assert call.ended.wait(PATIENCE)
    return [calls[i].result for i in range(len(specs))]


@pytest.mark.parametrize("dense", [True, False], ids=["dense slots", "free slots between, as on CUDA"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=st.lists(requests, min_size=1, max_size=12))
def test_any_mix_gives_each_request_what_it_gets_alone(engine, dense, specs):
    engine._runtime.dense = dense
    mixed = run_mix(engine, specs)
    engine._runtime.dense = True
    for spec, found in zip(specs, mixed, strict=True):
        request = of(engine, spec)
        alone = engine.generate([request])[0]
        if found.finish_reason == "cancelled":
            assert spec["cancel_at"] is not None
            assert found.token_ids == alone.token_ids[: len(found.token_ids)]
        else:
            assert (found.token_ids, found.finish_reason) == (alone.token_ids, alone.finish_reason)
            assert (found.logprobs, found.score) == (alone.logprobs, alone.score)
            assert found.text == alone.text
            assert request.stop or found.text == engine.tokenizer.decode(alone.token_ids)
    nothing_is_left(engine)


def test_scores_are_equal_to_the_last_bit_alone_and_together(engine):
    random = np.random.default_rng(0)
    prompts = [prompt(engine, "абв cab. " * int(random.integers(0, 5))) for _ in range(30)]
    targets = [random.integers(8, engine.bundle.vocab_size, random.integers(0, 15)).tolist() for _ in prompts]
    alone = [engine.score([p], [t])[0] for p, t in zip(prompts, targets, strict=True)]
    assert engine.score(prompts, targets) == alone
    assert all((nats == 0) == (not target) for nats, target in zip(alone, targets, strict=True))


def direct_nats(bundle, ids, target):
    """The same without engine, cache or batch: each position by a fresh run over everything before it."""
    network, total = bundle.config, 0.0
    if network.decoder_mixer == "ssru":
        runner = Runner({role: bundle.graph(role) for role in bundle.graphs}, network)
        runner.start([ids])
        logits_SV = runner.score(np.array([[2, *target[:-1]]]))[0].astype(np.float64)
        return float(sum(np.log(np.exp(row).sum()) - row[token] for row, token in zip(logits_SV, target, strict=True)))
    decoder = onnxruntime.InferenceSession(str(bundle.graph("decoder")), providers=["CPUExecutionProvider"])
    fixed = {}
    if bundle.family == "seq2seq":
        encoder = onnxruntime.InferenceSession(str(bundle.graph("encoder")), providers=["CPUExecutionProvider"])
        fixed["source_lengths"] = np.array([len(ids)])
        outputs = encoder.run(None, {"source_ids": np.array([ids]), **fixed})
        fixed |= dict(zip([o.name for o in encoder.get_outputs()], outputs, strict=True))
        ids = [2]
    for i, token in enumerate(target):
        before = [*ids, *target[:i]]
        feeds = {
            "token_ids": np.array([before]),
            "cache_lengths": np.array([len(before) - 1], np.int32),
            "total_length": np.array(len(before), np.int32),
            "last_index": np.array([len(before) - 1]),
        }
        for part in [f"{p}_{layer}" for layer in range(network.decoder_layers) for p in ("key", "value")]:
            feeds[f"past_{part}"] = np.zeros((1, network.kv_heads, len(before), network.head_dim), np.float32)
        logits = decoder.run(["logits"], {**feeds, **fixed})[0][0].astype(np.float64)
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[token]
    return total


def test_score_equals_the_log_softmax_of_direct_runs(engine):
    ids, target = prompt(engine, "кот cat"), [20, 300, 301, 150, 3]
    assert engine.score([ids], [target])[0] == pytest.approx(direct_nats(engine.bundle, ids, target), abs=1e-4)


def test_greedy_is_the_best_scored_token(engine):
    ids = prompt(engine, "абв cab")
    first = engine.generate([GenerationRequest(ids, 1)])[0].token_ids
    allowed = list(range(8, engine.bundle.vocab_size))
    nats = engine.score([ids] * len(allowed), [[i] for i in allowed])
    best = allowed[int(np.argmin(nats))]
    assert first in ([best], [])  # [] is the end-of-sequence token


# -- text and ends --------------------------------------------------------------------------------------------------


def test_streamed_pieces_join_to_the_text_and_control_tokens_never_come(engine):
    for seed in range(20):
        call = Call(engine, GenerationRequest(prompt(engine), 30, temperature=3.0, seed=seed))
        result = call.result
        assert "".join(event.text for event in call.events) == result.text == engine.tokenizer.decode(result.token_ids)
        assert not set(result.token_ids) & set(range(len(engine.tokenizer.control_tokens)))
        assert [e.finish_reason for e in call.events[:-1]] == [None] * (len(call.events) - 1)
        assert call.events[-1].generated_tokens == result.generated_tokens == len(result.token_ids)
        assert result.finish_reason == ("length" if result.generated_tokens == 30 else "eos_token")


def test_stop_strings_across_tokens_streamed_or_not(engine):
    tried = 0
    for seed in range(40):
        request = GenerationRequest(prompt(engine), 40, temperature=2.0, seed=seed)
        whole = engine.generate([request])[0].text
        stop = whole[5:8]  # the tokens are characters and bytes: three characters are three tokens or more
        if len(stop) < 3 or "\ufffd" in stop:
            continue
        tried += 1
        request = replace(request, stop=("never", stop))
        call = Call(engine, request)
        quiet = engine.generate([request])[0]
        assert call.result.text == quiet.text == whole[: whole.find(stop)]
        assert call.result.finish_reason == quiet.finish_reason == "stop_sequence"
        assert "".join(event.text for event in call.events) == quiet.text
    assert tried > 3


def test_a_fresh_seed_differs_each_time(engine):
    request = GenerationRequest(prompt(engine), 30, temperature=5.0)
    assert len({tuple(r.token_ids) for r in engine.generate([request] * 8)}) > 1


def test_default_max_tokens_is_what_fits_and_times_add_up(engine):
    room = min(engine.limits.max_new_tokens, engine.limits.context - len(prompt(engine)) or 10**6)
    if engine.limits.context == 0:
        room = engine.limits.max_new_tokens
    results = engine.generate([GenerationRequest(prompt(engine), temperature=9.0, seed=s) for s in range(60)])
    assert max(r.generated_tokens for r in results) == room
    for r in results:
        assert 0 <= r.queue_seconds <= r.queue_seconds + r.prefill_seconds <= r.first_token_seconds <= r.seconds


# -- the border -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("prompt", {"prompt_ids": []}, "must not be empty"),
        ("prompt", {"prompt_ids": [8] * 65}, "has 65 tokens, this model takes at most"),
        ("prompt", {"prompt_ids": [8, 100_000]}, "outside 0..343"),
        ("prompt", {"prompt_ids": [-1]}, "outside 0..343"),
        ("prompt", {"prompt_ids": ["a"]}, "list of token ids"),
        ("prompt", {"prompt_ids": [1.5]}, "list of token ids"),
        ("max_tokens", {"max_tokens": 0}, "between 1 and 64"),
        ("max_tokens", {"max_tokens": 65}, "between 1 and 64"),
        ("max_tokens", {"max_tokens": 2.0}, "must be an integer, not float"),
        ("max_tokens", {"max_tokens": True}, "must be an integer, not bool"),
        ("temperature", {"temperature": -0.1}, "at least 0"),
        ("temperature", {"temperature": float("nan")}, "at least 0"),
        ("temperature", {"temperature": "hot"}, "must be a number, not str"),
        ("top_k", {"top_k": -1}, "between 0"),
        ("top_p", {"top_p": 0.0}, "above 0 and at most 1"),
        ("top_p", {"top_p": 1.01}, "above 0 and at most 1"),
        ("min_p", {"min_p": 2}, "at most 1"),
        ("repetition_penalty", {"repetition_penalty": 0}, "at least 0.01"),
        ("repetition_penalty", {"repetition_penalty": 5e-324}, "at least 0.01"),
        ("repetition_penalty", {"repetition_penalty": float("inf")}, "at most 10"),
        ("frequency_penalty", {"frequency_penalty": 2.1}, "at most 2"),
        ("frequency_penalty", {"frequency_penalty": float("nan")}, "at least -2"),
        ("logprobs", {"logprobs": 21}, "between 0 and 20"),
        ("logprobs", {"logprobs": True}, "must be an integer, not bool"),
        ("beams", {"beams": 0}, "between 1 and 8"),
        ("beams", {"beams": 9}, "between 1 and 8"),
        ("length_penalty", {"length_penalty": float("inf")}, "at most 5"),
        ("seed", {"seed": -1}, "between 0"),
        ("seed", {"seed": 2**63}, "between 0"),
        ("stop", {"stop": "word"}, "must be a list of strings"),
        ("stop", {"stop": ("",)}, "1 to 256 characters"),
        ("stop", {"stop": ("a",) * 17}, "at most 16"),
        ("deadline", {"deadline": float("nan")}, "finite"),
    ],
)
def test_bad_requests_name_their_field(engine, field, change, message):
    request = replace(GenerationRequest(prompt(engine)), **change)
    before = engine.stats()["rejected"]
    with pytest.raises(InvalidRequest, match=f"^{field}: .*{message}") as error:
        engine.submit(request, print)
    assert error.value.field == field
    assert engine.stats()["rejected"] == before + 1


def test_prompt_and_new_tokens_share_the_decoders_context(engine):
    if engine.bundle.family == "seq2seq":
        assert engine.limits.context == 0
        engine.generate([GenerationRequest([8] * 64, 64)])
        return
    engine.generate([GenerationRequest([8] * 40, 24)])
    with pytest.raises(InvalidRequest, match=r"max_tokens: 25 new tokens after a prompt of 40 .* at most 24"):
        engine.generate([GenerationRequest([8] * 40, 25)])
    with pytest.raises(InvalidRequest, match=r"targets\[0\]: has 25 tokens, at most 24 fit"):
        engine.score([[8] * 40], [[9] * 25])


def test_prompt_names_what_is_wrong_with_a_text(engine):
    with pytest.raises(InvalidRequest) as error:
        engine.prompt("x", target="de")
    assert error.value.field == "target"
    with pytest.raises(InvalidRequest, match=r"^text: .*surrogate"):
        prompt(engine, "\ud800")


def test_config_reports_all_problems_together():
    with pytest.raises(ConfigError, match=r"(?s)slots: must be.*queue: must be.*source_buckets: must be"):
        from_dict(EngineConfig, {"slots": 0, "queue": 0, "source_buckets": [8, 4]})
