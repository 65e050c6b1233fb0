"""The model in a real terminal, in both languages, and in a pipe."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prometheus_mini import Model, load
from serving.chat.lines import ENTRIES
from serving.chat.session import _CONTROL
from serving.chat.words import ENGLISH, RUSSIAN, words
from tests.helpers.bundles import tiny_bundle
from tests.helpers.engines import LIVELY, talkative_bundle
from tests.helpers.terminal import ROOT, Terminal

CHAT = [sys.executable, "-m", "serving.chat"]
PLAIN = {"LANG": "C.UTF-8", "TERM": "dumb"}  # without colours, and without marks around what is pasted


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_bundle(tmp_path_factory.mktemp("chat") / "bundle", **LIVELY["seq2seq"])


@pytest.fixture(scope="module")
def model(talkative: Path) -> Iterator[Model]:
    with load(talkative) as found:
        yield found


def shown(text: str) -> str:
    """A text as a terminal is given it: random weights make control characters, too."""
    return _CONTROL.sub("", text).rstrip("\n")


def chat(bundle: Path, state: Path, environment: dict[str, str] = PLAIN, *options: str) -> Terminal:
    return Terminal([*CHAT, "--bundle", bundle, *options], {"XDG_STATE_HOME": str(state), **environment})


def say(terminal: Terminal, line: str) -> str:
    """Type a line; what is said to it."""
    terminal.send(line + "\n")
    said = terminal.expect(r"\n(?=(\x1b\[\?2004h)?[a-z]*> $)")
    return said.partition("\n")[2].rstrip("\n")


def answer(terminal: Terminal, line: str) -> str:
    """Type a text; its answer. The bundle's random weights seldom end a text by themselves."""
    said, _, note = say(terminal, line).rpartition("\n")
    return said if note in (ENGLISH.cut, RUSSIAN.cut) else f"{said}\n{note}".lstrip("\n")


def test_a_conversation_in_english(talkative: Path, model: Model, tmp_path: Path) -> None:
    with chat(talkative, tmp_path) as terminal:
        assert ENGLISH.translates.format(languages="ru, en") in terminal.expect("> ")
        assert answer(terminal, "Привет, мир!") == shown(model.translate("Привет, мир!", to="en"))
        assert answer(terminal, "Hello. How are you?") == shown(model.translate("Hello. How are you?", to="ru"))
        assert say(terminal, "12:30") == "12:30"
        assert "Parameters: max_tokens, temperature, " in say(terminal, "/help")
        assert say(terminal, "/set") == ENGLISH.nothing_set
        assert say(terminal, "/set max_tokens 1") == "max_tokens = 1"
        assert say(terminal, "Hello").split("\n") == [shown(model.translate("Hello", max_tokens=1)), ENGLISH.cut]
        assert say(terminal, "/set max_tokens") == ENGLISH.nothing_set
        assert say(terminal, "/stats") == ENGLISH.stats_on
        assert re.fullmatch(
            r"\d+ tokens, \d+\.\d\d s, [\d,]+ tokens per second", say(terminal, "Hello").split("\n")[-1]
        )
        assert say(terminal, "/stats") == ENGLISH.stats_off
        assert say(terminal, "/foo").startswith("error: /foo: no such command; /help lists them")
        assert answer(terminal, " /foo") == shown(model.translate(" /foo", to="ru"))
        terminal.send("exit\n")
        assert terminal.ended() == 0 and "\x1b" not in terminal.seen


def test_a_conversation_in_russian(talkative: Path, model: Model, tmp_path: Path) -> None:
    """Also where the locale that is asked for is not installed: readline would take Cyrillic for bytes."""
    with chat(talkative, tmp_path, {"LC_ALL": "ru_RU.UTF-8", "TERM": "dumb"}) as terminal:
        assert RUSSIAN.translates.format(languages="ru, en") in terminal.expect("> ")
        assert answer(terminal, "Привет, мир!") == shown(model.translate("Привет, мир!", to="en"))
        # What is taken back is a letter, not a byte of one.
        assert answer(terminal, "Прим\x7f\x7fивет") == shown(model.translate("Привет", to="en"))
        assert "Параметры: max_tokens, " in say(terminal, "/help")
        assert say(terminal, "/foo").startswith("ошибка: /foo: нет такой команды")
        terminal.send("выход\n")
        assert terminal.ended() == 0


def test_refusals_are_russian_for_who_chose_russian(tiny: Path, tmp_path: Path) -> None:
    """All that a person can be refused here: no English is left but names and what was typed."""
    refused = {
        "temperature": "42", "top_k": "-1", "top_p": "7", "max_tokens": "many", "beams": "9", "ignore_eos": "7",
        "author": "nobody", "source": "xx", "format": "pdf", "glossary": "рис", "temprature": "1", "stop": "а" * 999,
        "length_penalty": "long", "seed": "x",
    }  # fmt: skip
    with chat(tiny, tmp_path, {"LC_ALL": "ru_RU.UTF-8", "TERM": "dumb"}) as terminal:
        terminal.expect("> ")
        lines = [*(f"/set {name} {value}" for name, value in refused.items()), "/to xx", "/foo"]
        said = {line: say(terminal, line) for line in lines}
    assert all(answer.startswith("ошибка: ") for answer in said.values()), said
    english = re.compile(r"\b(must|not|be|unknown|known|has|characters|at most|and|one|of)\b")
    assert {line: answer for line, answer in said.items() if english.search(answer)} == {}


def test_every_parameter_is_refused_in_the_services_words(tiny: Path, tmp_path: Path) -> None:
    with chat(tiny, tmp_path) as terminal:
        terminal.expect("> ")
        for name, value, words in (
            ("temperature", "42", "temperature: must be at least 0 and at most 10, not 42.0"),
            ("max_tokens", "many", "max_tokens: must be an integer, not 'many'"),
            ("beams", "9", "beams: must be between 1 and 8, not 9"),
            ("ignore_eos", "7", "ignore_eos: must be true or false, not '7'"),
            ("author", "nobody", "author: unknown author 'nobody'; known: guide"),
            ("temprature", "1", "temprature: unknown parameter; known: max_tokens, temperature"),
            ("alternatives", "2", "alternatives: unknown parameter; known: max_tokens"),
        ):
            assert say(terminal, f"/set {name} {value}").startswith(f"error: {words}")
        assert say(terminal, "/set temperature 0.8") == "temperature = 0.8"
        assert say(terminal, "/set beams 4").startswith("error: beams: a beam search draws nothing")
        assert say(terminal, "/set seed 7") == "temperature = 0.8\nseed = 7"
        assert say(terminal, "/set ignore_eos true").endswith("ignore_eos = True")


def test_a_direction_is_set_and_left_to_the_text_again(talkative: Path, model: Model, tmp_path: Path) -> None:
    with chat(talkative, tmp_path) as terminal:
        terminal.expect("> ")
        assert say(terminal, "日本").startswith("error: to: the text does not tell its language; say which to")
        assert say(terminal, "/to de") == "error: to: unknown language 'de'; known: ru, en"
        assert say(terminal, "/to en") == ENGLISH.into.format(language="en")
        assert terminal.expect("en> ")
        assert answer(terminal, "Hello") == shown(model.translate("Hello", to="en"))
        assert say(terminal, "/to") == ENGLISH.into_other
        assert answer(terminal, "Hello") == shown(model.translate("Hello", to="ru"))


def test_running_text_is_gone_on_with_and_drawn(tmp_path: Path) -> None:
    bundle = talkative_bundle(tmp_path / "text", family="decoder", **LIVELY["decoder"])
    with chat(bundle, tmp_path) as terminal:
        assert ENGLISH.continues in terminal.expect("> ")
        assert len({say(terminal, "abc") for _ in range(4)}) > 1
        assert say(terminal, "/set temperature 0") == "temperature = 0"
        assert len({say(terminal, "abc") for _ in range(4)}) == 1
        assert say(terminal, "/to en") == "error: to: this model continues text and takes none; leave it out"


def test_ctrl_c_stops_an_answer_and_ctrl_d_leaves(slow: Path, tmp_path: Path) -> None:
    with chat(slow, tmp_path) as terminal:
        terminal.expect("> ")
        say(terminal, "/set ignore_eos true")
        say(terminal, "/set max_tokens 2000")
        for _ in range(2):
            terminal.send("Привет\n")
            terminal.expect(r"Привет\n[^\n]+")  # it has begun
            terminal.send("\x03")
            assert ENGLISH.stopped in terminal.expect("> $")
        terminal.send("half a line\x03")
        assert ENGLISH.leave in terminal.expect(r"\n> $")
        assert say(terminal, "12") == "12"
        terminal.send("\x04")
        assert terminal.ended() == 0


def test_a_pasted_paragraph_is_one_text(talkative: Path, model: Model, tmp_path: Path) -> None:
    """From a terminal that marks it, and from one that does not."""
    paragraph = "Привет, мир!\n\n- Как дела?"
    expected = shown(model.translate(paragraph, to="en"))
    with chat(talkative, tmp_path, {**PLAIN, "TERM": "xterm", "NO_COLOR": "1"}) as terminal:
        terminal.expect("> ")
        terminal.send(f"\x1b[200~{paragraph}\x1b[201~")
        assert answer(terminal, "").endswith(expected)
    with chat(talkative, tmp_path) as terminal:
        terminal.expect("> ")
        assert answer(terminal, paragraph).endswith(expected)


def test_colours_are_there_unless_somebody_minds(tiny: Path, tmp_path: Path) -> None:
    for environment, coloured in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        with chat(tiny, tmp_path, {**PLAIN, **environment}) as terminal:
            terminal.expect("> ")
            terminal.send("exit\n")
            assert terminal.ended() == 0
        with chat(tiny, tmp_path, {**PLAIN, **environment}) as terminal:
            assert ("\x1b[2mType a text in ru" in terminal.expect("> ")) == coloured


def test_what_is_typed_is_kept_for_its_owner_alone(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "prometheus-mini" / "chat.jsonl"
    with chat(tiny, tmp_path) as terminal:
        terminal.expect("> ")
        say(terminal, "Привет, мир!")
        os.killpg(terminal.process.pid, 9)  # nothing is lost
    assert file.read_text("utf-8") == '"Привет, мир!"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with chat(tiny, tmp_path) as terminal:
        terminal.expect("> ")
        terminal.send("\x10")  # Ctrl-P, as the arrow does
        terminal.expect("Привет, мир!")
        terminal.send("\n")
        terminal.expect(r"\n> $")
    assert file.read_text("utf-8") == '"Привет, мир!"\n' * 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_history_is_bounded_and_can_be_left_out(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps(f"line {number}") + "\n" for number in range(2 * ENTRIES)) + '"cut o')
    with chat(tiny, tmp_path / "state", PLAIN, "--history", str(file)) as terminal:
        terminal.expect("> ")
        say(terminal, "x" * 5000)
    lines = file.read_text().splitlines()
    assert len(lines) == ENTRIES - 1 and lines[-1] == f'"line {2 * ENTRIES - 1}"'
    with chat(tiny, tmp_path / "state", PLAIN, "--history", "none") as terminal:
        terminal.expect("> ")
        say(terminal, "Привет")
    assert not (tmp_path / "state").exists()
    with chat(tiny, tmp_path / "state", PLAIN, "--history", str(file / "under a file")) as terminal:
        assert "what is typed is not kept: " in terminal.expect("> ")
        assert say(terminal, "12") == "12"


def test_a_pipe_has_answers_and_nothing_else(talkative: Path, model: Model) -> None:
    texts = ["Привет, мир!", "", "12:30", "Hello. How are you?"]
    typed = "\n".join([*texts[:2], "/set max_tokens 20", "/to de", *texts[2:], "выход", "not read"])
    done = subprocess.run(
        [*CHAT, "--bundle", talkative],
        input=typed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    answers = [model.translate(text, **({"max_tokens": 20} if text in texts[2:] else {})) for text in texts]
    assert done.stdout == "".join(f"{answer}\n" for answer in answers)
    assert "max_tokens = 20\n" in done.stderr and "to: unknown language 'de'" in done.stderr
    assert done.returncode == 1
    for typed_bytes in (b"\xff\xfe", b""):
        run = subprocess.run(
            [*CHAT, "--bundle", talkative], input=typed_bytes, cwd=ROOT, capture_output=True, check=False
        )
        assert run.returncode == 0 and run.stderr == b""


def test_make_chat_starts_it(tiny: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches make too, which waits for the program that goes on."""
    bundle = tiny_bundle(tmp_path / "my bundle", max_positions=2048, decoder_layers=8, d_ff=512)
    command = ["make", "--no-print-directory", "-o", ".venv/.stamp", "chat", f"BUNDLE={bundle}", "HISTORY=none"]
    with Terminal(command, PLAIN) as terminal:
        terminal.expect("> ")
        say(terminal, "/set ignore_eos true")
        say(terminal, "/set max_tokens 2000")
        terminal.send("Привет\n")
        terminal.expect(r"Привет\n[^\n]+")
        terminal.send("\x03")
        assert ENGLISH.stopped in terminal.expect("> $")
        assert say(terminal, "12") == "12"
        terminal.send("exit\n")
        terminal.ended()


def test_the_language_is_that_of_messages() -> None:
    assert words({"LANG": "ru_RU.UTF-8"}) is RUSSIAN
    assert words({"LANG": "ru_RU.UTF-8", "LC_MESSAGES": "C"}) is ENGLISH
    assert words({"LANG": "C", "LC_ALL": "", "LC_MESSAGES": "ru"}) is RUSSIAN
    assert words({"LC_ALL": "de_DE.UTF-8", "LANG": "ru_RU.UTF-8"}) is ENGLISH
    assert words({}) is ENGLISH
