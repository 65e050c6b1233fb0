"""The engine on real ONNX Runtime sessions: results that do not depend on company, and the life of a request.

The bundles have random weights and are made by the real export; see tests/helpers/engines.py.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle import Bundle
from model.config import ConfigError
from serving.engine import Engine, EngineConfig, GenerationRequest
from serving.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Overloaded, ShuttingDown
from tests.helpers.engines import talkative_bundle

CONFIG = EngineConfig(slots=4, queue=64, prefills_per_step=2, threads=1, provider="cpu", source_buckets=[8, 16, 32])
SEEDS = {"seq2seq": 1, "decoder": 2}
PATIENCE = 30


@pytest.fixture(scope="module", params=["seq2seq", "decoder"])
def bundle(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / request.param
    return Bundle.load(talkative_bundle(path, request.param, SEEDS[request.param]))


@pytest.fixture(scope="module")
def engine(bundle):
    with Engine(bundle, CONFIG) as engine:
        yield engine


class Call:
    """One submitted request and what came back."""

    def __init__(self, engine, request, on_token=None, stream=True):
        self.events, self.ended, self._on_token = [], threading.Event(), on_token
        self.handle = engine.submit(request, self._take, stream=stream)

    def _take(self, event):
        self.events.append(event)
        if event.finish_reason is not None:
            self.ended.set()
        elif self._on_token is not None:
            self._on_token(self)

    @property
    def result(self):
        assert self.ended.wait(PATIENCE), "the request never ended"
        return self.events[-1].result


def prompt(engine, text="привет hello"):
    return engine.prompt(text, **({"target": "en"} if engine.bundle.task == "translation" else {}))


def long_prompt(engine, text="a"):
    """A prompt of this bundle and a number of tokens that takes many steps."""
    ids = prompt(engine, text)
    for seed in range(50):
        request = GenerationRequest(ids, max_tokens=40, temperature=2.0, seed=seed)
        if engine.generate([request])[0].generated_tokens == 40:
            return request
    raise AssertionError("no seed gives 40 tokens")


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
            ]
        ),
        "arrives": st.integers(0, 60),  # after so many tokens of all requests together
        "cancel_at": st.sampled_from([None, None, None, 1, 3]),  # after so many tokens of its own
        "stream": st.booleans(),
    }
)


def run_mix(engine, specs):
    """Submit each request in the engine thread itself when its time has come: no luck in the order of events."""
    calls, tokens, waiting = {}, [0], sorted(range(len(specs)), key=lambda i: specs[i]["arrives"])
    lock = threading.RLock()

    def admit(force=False):
        with lock:
            while waiting and (force or specs[waiting[0]]["arrives"] <= tokens[0]):
                i, force = waiting.pop(0), False
                spec = specs[i]
                request = GenerationRequest(prompt(engine, spec["text"]), spec["max_tokens"], **spec["sampling"])
                calls[i] = Call(engine, request, lambda call, i=i: on_token(call, specs[i]), spec["stream"])

    def on_token(call, spec):
        tokens[0] += 1
        if spec["cancel_at"] is not None and len(call.events) >= spec["cancel_at"]:
            call.handle.cancel()
        admit()

    while len(calls) < len(specs):
        admit(force=True)  # whenever the engine has run dry
        for call in list(calls.values()):
            assert call.ended.wait(PATIENCE)
    return [calls[i].result for i in range(len(specs))]


@pytest.mark.parametrize("dense", [True, False], ids=["dense rows", "rows with holes, as on CUDA"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=st.lists(requests, min_size=1, max_size=12))
def test_any_mix_gives_each_request_what_it_gets_alone(engine, dense, specs):
    engine._runtime.dense = dense
    mixed = run_mix(engine, specs)
    engine._runtime.dense = True
    for spec, found in zip(specs, mixed, strict=True):
        request = GenerationRequest(prompt(engine, spec["text"]), spec["max_tokens"], **spec["sampling"])
        alone = engine.generate([request])[0]
        if found.finish_reason == "cancelled":
            assert spec["cancel_at"] is not None
            assert found.token_ids == alone.token_ids[: len(found.token_ids)]
        else:
            assert (found.token_ids, found.finish_reason) == (alone.token_ids, alone.finish_reason)
            assert found.text == alone.text == engine.tokenizer.decode(alone.token_ids)
    assert engine.stats()["running"] == engine.stats()["waiting"] == engine.stats()["kv_tokens"] == 0


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
        ("repetition_penalty", {"repetition_penalty": 0}, "above 0"),
        ("repetition_penalty", {"repetition_penalty": float("inf")}, "at most 10"),
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
    with pytest.raises(ConfigError, match=r"(?s)slots must be.*queue must be.*source_buckets must be"):
        EngineConfig(slots=0, queue=0, source_buckets=[8, 4])


# -- life and death -------------------------------------------------------------------------------------------------


def test_cancel_frees_the_slot_within_a_step(bundle):
    with Engine(bundle, replace(CONFIG, slots=1)) as engine:
        request = long_prompt(engine)
        first = Call(engine, request, lambda call: call.handle.cancel() if len(call.events) == 3 else None)
        second = Call(engine, replace(request, max_tokens=5))
        assert (first.result.finish_reason, first.result.generated_tokens) == ("cancelled", 3)
        assert first.result.token_ids == engine.generate([request])[0].token_ids[:3]
        assert second.result.finish_reason == "length"
        first.handle.cancel()  # afterwards and again: nothing
        assert engine.stats()["running"] == 0


def test_cancel_while_waiting(bundle):
    engine = Engine(bundle, CONFIG)
    calls = [Call(engine, GenerationRequest(prompt(engine), 3, 1.0, seed=i)) for i in range(3)]
    calls[1].handle.cancel()
    engine.start()
    assert [c.result.finish_reason == "cancelled" for c in calls] == [False, True, False]
    assert calls[1].result.generated_tokens == 0
    engine.close()


def test_a_full_queue_refuses_and_draining_finishes_the_rest(bundle):
    engine = Engine(bundle, replace(CONFIG, queue=2))
    calls = [Call(engine, GenerationRequest(prompt(engine), 4)) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 requests are waiting already"):
        Call(engine, GenerationRequest(prompt(engine), 4))
    engine.start()
    engine.close(drain=True)
    assert all(c.result.error is None for c in calls)
    with pytest.raises(ShuttingDown, match="takes no new requests"):
        Call(engine, GenerationRequest(prompt(engine), 4))
    assert engine.healthy


def test_closing_without_draining_ends_requests_at_once(bundle):
    engine = Engine(bundle, CONFIG).start()
    request, running = long_prompt(engine), threading.Event()
    call = Call(engine, request, lambda call: (running.set(), time.sleep(0.02)))
    assert running.wait(PATIENCE)
    engine.close(drain=True, timeout=0.05)
    assert isinstance(call.result.error, ShuttingDown)
    assert 0 < call.result.generated_tokens < 40


def test_closing_an_engine_that_never_started_ends_what_waits(bundle):
    engine = Engine(bundle, CONFIG)
    call = Call(engine, GenerationRequest(prompt(engine)))
    engine.close()
    assert isinstance(call.result.error, ShuttingDown)


def test_deadlines_end_running_and_waiting_requests(bundle):
    with Engine(bundle, replace(CONFIG, slots=1)) as engine:
        request = long_prompt(engine)
        running = Call(engine, replace(request, deadline=time.monotonic() + 0.1), lambda call: time.sleep(0.02))
        waiting = Call(engine, replace(request, deadline=time.monotonic() + 0.05))
        for call in (running, waiting):
            assert call.result.finish_reason == "error"
            assert isinstance(call.result.error, DeadlineExceeded)
        assert 0 < running.result.generated_tokens < 40
        assert waiting.result.generated_tokens == 0
        assert engine.generate([replace(request, deadline=time.monotonic() + 60)])[0].generated_tokens == 40


def test_a_failing_session_fails_everyone_at_once(bundle):
    """A real failure of ONNX Runtime: an id outside the vocabulary, slipped in behind the border's check."""
    engine = Engine(bundle, CONFIG)
    calls = [Call(engine, GenerationRequest(prompt(engine), 30)) for _ in range(8)]
    engine._scheduler.waiting[3].prompt[0] = 10**6
    assert engine.healthy
    engine.start()
    for call in calls:
        assert call.result.finish_reason == "error"
        assert isinstance(call.result.error, EngineFailed)
        assert "the server's log says why" in str(call.result.error)
    assert not engine.healthy
    with pytest.raises(EngineFailed, match="has to be restarted"):
        engine.submit(GenerationRequest(prompt(engine)), print)
    with pytest.raises(EngineFailed, match="has to be restarted"):
        engine.generate([GenerationRequest(prompt(engine))])
    engine.close()


def test_a_callers_exception_ends_only_its_own_request(engine):
    def trip(call):
        raise RuntimeError("caller's bug")

    request = long_prompt(engine)
    bad, good = Call(engine, request, trip), Call(engine, request)
    assert bad.result.finish_reason == "cancelled"
    assert good.result.generated_tokens == 40
    assert engine.healthy


def test_observer_sees_every_request_and_step(bundle):
    class Watch:
        def __init__(self):
            self.rows, self.intervals, self.results, self.refused = [], [], [], []

        def step(self, rows, seconds):
            self.rows.append(rows)

        def interval(self, seconds, count):
            self.intervals.append((seconds, count))

        def finished(self, result):
            self.results.append(result)

        def rejected(self, error):
            self.refused.append(error)

    watch = Watch()
    with Engine(bundle, CONFIG, observer=watch) as engine:
        results = engine.generate([GenerationRequest(prompt(engine), 10, 2.0, seed=i) for i in range(9)])
        with pytest.raises(InvalidRequest):
            engine.submit(GenerationRequest([]), print)
        stats = engine.stats()
    assert max(watch.rows) == 4 and len(watch.rows) == stats["steps"]
    assert sorted(r.generated_tokens for r in watch.results) == sorted(r.generated_tokens for r in results)
    assert stats["generated_tokens"] == sum(r.generated_tokens for r in results)
    assert stats["prompt_tokens"] == sum(r.prompt_tokens for r in results)
    assert sum(stats["finished"].values()) == 9
    assert watch.intervals and all(seconds > 0 and count > 0 for seconds, count in watch.intervals)
    assert [e.field for e in watch.refused] == ["prompt"]
    assert stats["kv_bytes"] > 0 and stats["provider"] == "CPUExecutionProvider"


def test_cuda_is_refused_where_it_cannot_work(bundle):
    engine = Engine(bundle, replace(CONFIG, provider="cuda"))
    with pytest.raises(EngineFailed, match="fp32 variant has no CUDA kernels; publish the fp16 variant"):
        engine.start()
    assert Engine(bundle, replace(CONFIG, provider="auto")).start().provider == "CPUExecutionProvider"
