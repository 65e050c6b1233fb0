"""A bundle in this process: the texts of the server, from threads, tasks and other loops, and an end to everything."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from model.bundle import Bundle, BundleError
from model.settings import ConfigError
from prometheus_mini import Error, InvalidRequest, Model, Options, load
from serving.engine import Engine, GenerationRequest
from serving.errors import ShuttingDown
from serving.lists import PLACES
from serving.parameters import NAMES
from tests.helpers.engines import LIVELY, talkative_bundle
from tests.helpers.servers import Server, wait_until

TEXTS = ["Привет, мир!", "Hello. How are you? Fine!", "", "12:30", "да\n\n- нет. Да?\n", "abc " * 60]


@pytest.fixture(scope="module")
def translation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_bundle(tmp_path_factory.mktemp("local") / "translation", **LIVELY["seq2seq"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_bundle(tmp_path_factory.mktemp("local") / "text", family="decoder", **LIVELY["decoder"])


@pytest.fixture(scope="module")
def model(translation: Path) -> Iterator[Model]:
    with load(translation) as found:
        yield found


@pytest.fixture(scope="module")
def writer(running: Path) -> Iterator[Model]:
    with load(running) as found:
        yield found


def test_texts_are_those_of_the_server(tiny: Path, server: Server) -> None:
    """Whole paragraphs, odd characters and texts without letters: one path."""
    with load(tiny) as model:
        for text in TEXTS:
            answer = server.post("/generate", {"prompt": text, "target": "en", "max_tokens": 20}).json()
            assert model.translate(text, to="en", max_tokens=20) == answer["text"]


def test_a_list_a_stream_and_each_text_alone_say_the_same(model: Model) -> None:
    alone = [model.translate(text, to="en") for text in TEXTS]
    assert model.translate(TEXTS, to="en") == alone
    assert model.translate(tuple(TEXTS), to="en") == alone
    assert ["".join(model.stream(text, to="en")) for text in TEXTS] == alone
    assert model.translate([]) == []
    many = model.translate(TEXTS * 200, to="en")  # more than there are places
    assert many == alone * 200


def test_a_stream_comes_in_pieces_and_ends_with_its_result(model: Model) -> None:
    assert len(list(model.stream("Hello there", to="ru"))) > 3
    *events, last = model.events("Hello there", to="ru")
    assert last.result is not None and last.result.generated_tokens > 3 and last.result.seconds > 0
    assert all(event.result is None for event in events)


def test_options_do_what_they_say(model: Model) -> None:
    greedy = model.translate("Hello there", to="ru")
    assert model.translate("Hello there") == greedy  # the other language, by the script
    assert len(model.translate("Hello there", max_tokens=3)) <= 3
    drawn = [model.translate("Hello there", temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    first, *others = model.translate(["Hello", "Привет"], temperature=2.0, seed=1, alternatives=3)
    assert len(first) == len(set(first)) == 3 and len(others) == 1
    assert model.translate("Hello there", beams=4) and model.translate("Hello there", stop=greedy[2]) == greedy[:2]


def test_options_are_the_services(model: Model) -> None:
    """An option that the service learns is one here."""
    known = typing.get_type_hints(Options).keys()
    assert known - {"alternatives"} == set(NAMES) - {"target"}


def test_running_text_is_drawn_unless_told(writer: Model) -> None:
    assert len({writer.complete("abc ") for _ in range(4)}) > 1
    assert len({writer.complete("abc ", temperature=0) for _ in range(4)}) == 1
    assert len({writer.complete("abc ", seed=3) for _ in range(4)}) == 1
    assert "".join(writer.stream("abc ", seed=3)) == writer.complete("abc ", seed=3)
    assert len(writer.complete(["abc ", "xyz"], alternatives=2)[1]) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.translate("да", to="de"), "to: unknown language 'de'; known: ru, en"),
        (lambda model: model.translate("日本"), "to: the text does not tell its language"),
        (lambda model: model.translate(["да", "日本"]), r"text\[1\]: to: the text does not tell its language"),
        (lambda model: model.translate(5), "text: must be a string or a list of strings, not int"),
        (lambda model: model.translate(["да", b"x"]), r"text\[1\]: must be a string, not bytes"),
        (lambda model: model.translate(["да", "x\ud800"]), r"text\[1\]: the text holds a lone surrogate"),
        (lambda model: model.translate("x\ud800"), "text: the text holds a lone surrogate"),
        (lambda model: list(model.stream(["да"])), "text: must be a string, not list"),
        (lambda model: model.translate("да", beams=99), "beams: must be between 1 and 8, not 99"),
        (lambda model: model.translate("да", temprature=1), "temprature: unknown parameter; known: max_tokens"),
        (lambda model: model.translate("да", alternatives=2), "alternatives: greedy gives one and the same text"),
        (lambda model: model.translate("да", alternatives="2"), "alternatives: must be an integer, not str"),
        (lambda model: list(model.stream("да", temperature=1, alternatives=2)), "alternatives: one text"),
        (lambda model: model.complete("да"), r"bundle: \S+ is a model for translation: call translate\(\)"),
        (lambda model: model.check(beams=4, temperature=0.5), "beams: a beam search draws nothing"),
        (lambda model: model.check(to="de"), "to: unknown language 'de'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_to_do(model: Model, call, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{message}"):
        call(model)


def test_what_cannot_be_loaded_says_why(translation: Path, tmp_path: Path, writer: Model) -> None:
    with pytest.raises(BundleError, match="no such directory; a bundle is a directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"load.slots: must be at least 1, not 0"):
        load(translation, slots=0)
    with pytest.raises(InvalidRequest, match=r"is a model for text: call complete\(\)"):
        writer.translate("да", to="en")
    with pytest.raises(InvalidRequest, match="to: this model continues text and takes none"):
        list(writer.stream("да", to="en"))
    assert issubclass(BundleError, Error) and issubclass(ConfigError, Error) and issubclass(InvalidRequest, Error)


def test_threads_share_a_model(model: Model) -> None:
    alone = [model.translate(text, to="en") for text in TEXTS]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: model.translate(text, to="en"), TEXTS * 40))
    assert found == alone * 40


def test_tasks_share_a_model_in_any_loop(model: Model, writer: Model) -> None:
    async def work() -> None:
        alone = model.translate(TEXTS, to="en")  # a call that waits does not mind the loop around it
        assert await model.atranslate(TEXTS, to="en") == alone
        assert await asyncio.gather(*(model.atranslate(text, to="en") for text in TEXTS * 60)) == alone * 60
        assert "".join([piece async for piece in model.astream(TEXTS[1], to="en")]) == alone[1]
        assert await writer.acomplete("abc ", seed=3) == writer.complete("abc ", seed=3)
        with pytest.raises(InvalidRequest, match="beams"):
            await model.atranslate("да", beams=99)

    for _ in range(2):
        asyncio.run(work())


def test_who_leaves_ends_its_generations(model: Model) -> None:
    def idle() -> bool:
        return not model._engine.stats()["running"]

    endless = {"ignore_eos": True, "max_tokens": 60}
    with closing(model.stream("Hello", to="ru", **endless)) as pieces:
        next(pieces)
        assert not idle()
    wait_until(idle, "the end of a stream")

    async def cancelled() -> None:
        call = asyncio.ensure_future(model.atranslate(["Hello"] * 50, to="ru", **endless))
        while idle():
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with aclosing(model.astream("Hello", to="ru", **endless)) as pieces:
            await anext(pieces)

    asyncio.run(cancelled())
    wait_until(idle, "the end of cancelled calls")
    assert model.translate("Hello", to="ru")


def test_one_text_in_fault_ends_the_others_of_its_call(model: Model) -> None:
    for texts in ([*["Hello"] * 500, "日本"], ["Hello there", *["Hello"] * 499, "日本", *["No"] * 40]):
        with pytest.raises(InvalidRequest, match=r"^text\[500\]: to: the text does not tell its language"):
            model.translate(texts)
        wait_until(lambda: not model._engine.stats()["running"], "the end of the others")
    wait_until(lambda: model._lists._places._value == PLACES, "the places that they give back")


def test_alternatives_of_a_long_list_stay_with_their_texts(model: Model) -> None:
    texts = [f"Hello {number}" for number in range(50)]
    drawn = {"temperature": 2.0, "seed": 5, "alternatives": 3, "max_tokens": 8}
    assert model.translate(texts, **drawn) == [model.translate(text, **drawn) for text in texts]


def test_an_interruption_ends_the_call(translation: Path) -> None:
    """Ctrl-C in a program that waits: its generations end, the model goes on."""
    code = f"""
import signal, threading
from prometheus_mini import load
with load({str(translation)!r}) as model:
    def interrupt():
        while not model._engine.stats()["running"]: pass
        signal.raise_signal(signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        while True:
            model.translate(["Hello"] * 100, to="ru", ignore_eos=True, max_tokens=60)
    except KeyboardInterrupt:
        print("interrupted", bool(model.translate("Hello", to="ru")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted True\n", done.stderr


def test_a_closed_model_says_so_and_ends_what_runs(translation: Path) -> None:
    model = load(translation)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                model.translate(["Hello"] * 100, to="ru", ignore_eos=True, max_tokens=60)
        except Error as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(model._engine.stats()["running"]), "a generation")
    stream = model.stream("Hello", to="ru")
    next(stream)
    model.close()
    model.close()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 4 and all(isinstance(error, ShuttingDown) for error in ended)
    with pytest.raises(ShuttingDown, match="has been closed; load it again"):
        model.translate("Hello")
    with pytest.raises(ShuttingDown):
        list(stream)


def test_a_model_that_nobody_has_leaves_no_thread(translation: Path) -> None:
    before = set(threading.enumerate())
    model = load(translation)
    assert model.translate("Hello", to="ru")
    assert len(set(threading.enumerate()) - before) >= 2
    del model
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before, "the end of its threads")


def test_a_program_that_closes_nothing_ends(translation: Path) -> None:
    code = f"from prometheus_mini import load; m = load({str(translation)!r}); s = m.stream('Hello'); print(next(s))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and done.stdout and done.stderr == ""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_load_its_own(model: Model) -> None:
    """It has none of the model's threads: a call would wait for ever."""

    def child() -> None:
        try:
            model.translate("Hello")
        except Error as error:
            sys.exit(0 if "load it in each process" in str(error) else 2)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert model.translate("Hello", to="ru")


def test_a_list_costs_no_more_steps_than_the_engine_alone(translation: Path) -> None:
    """Its texts are side by side as requests are that are all there at once, though a few are cut at a time."""
    with Engine(Bundle.load(translation)) as engine, load(translation) as model:
        texts = [f"{'word ' * (number % 5 + 1)}{number}" for number in range(300)]
        prompts = [engine.prompt(text, target="ru") for text in texts]
        results = engine.generate([GenerationRequest(prompt, max_tokens=20) for prompt in prompts])
        assert model.translate(texts, to="ru", max_tokens=20) == [result.text for result in results]
        assert model._engine.stats()["steps"] <= 1.1 * engine.stats()["steps"]
