"""The command that translates files and pipes, as people run it: real processes, real files, a real bundle."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.bundle import Bundle
from model.documents import FORMATS, read
from model.files import sha256_file
from serving.engine import Engine
from serving.errors import InvalidRequest, ServingError, ShuttingDown
from serving.translate.journal import Busy, Journal
from serving.translate.order import in_order
from serving.translate.texts import Translator
from serving.ways import Terms
from tests.helpers.bundles import tiny_bundle
from tests.helpers.engines import LIVELY, talkative_bundle
from tests.helpers.servers import ROOT, wait_until

# Every other line is in the target language and comes back as it is, which shows that lines stay in order.
LINES = [f"строка номер {n}" if n % 2 else f"line number {n}" for n in range(2400)]


@pytest.fixture(scope="module")
def translator(tiny: Path) -> Iterator[Translator]:
    with Engine(Bundle.load(tiny)) as engine:
        yield Translator(engine, "en")


def command(bundle: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "serving.translate", "--bundle", str(bundle), "--to", "en", *words]


def run(bundle: Path, *words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(bundle, *words), cwd=ROOT, capture_output=True, text=True, check=False, **options)


# What is sure to stay, whatever a model makes of the texts.
KEPT = {
    "a.md": ["# ", "\n\n```\nкод\n```\n", "`кодом`", "[", "](http://x.y/z)", "**"],
    "a.html": ["<p>", "<b>", "</b>", "<!-- нет -->", '<a href="/привет">'],
    "a.srt": ["1\n00:00:01,000 --> 00:00:02,000\n<i>", "</i>"],
    "a.jsonl": ['{"id": 1, "text": "', "%s"],
    "a.po": ['msgid "привет"\n', 'msgid "привет, %s"'],
    "a.tmx": ['<tuv xml:lang="ru"><seg>привет <ph>x</ph> мир</seg></tuv>', "<ph>x</ph>"],
    "a.xliff": ["<source>привет</source>", "</trans-unit>"],
    "a.properties": ["key = "],
    "a.tsv": ["1\t", "\t"],
    "a.txt": ["\r\n\r\n  ", "\n12\nlast"],
}
DOCUMENTS = {
    "a.txt": "Привет, мир.\r\n\r\n  Как дела? Хорошо.\n12\nlast",
    "a.md": "# Заголовок\n\nДве **строки**\nс `кодом` и [ссылкой](http://x.y/z).\n\n```\nкод\n```\n",
    "a.html": '<p>Привет, <b>мир</b>!<!-- нет --> <a href="/привет">Да</a></p>',
    "a.srt": "1\n00:00:01,000 --> 00:00:02,000\n<i>Привет!</i>\n",
    "a.tsv": "1\tпривет\tмир\n",
    "a.jsonl": '{"id": 1, "text": "привет, %s"}\n',
    "a.po": 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "привет"\nmsgstr ""\n'
    '\nmsgid "привет, %s"\nmsgstr ""\n',
    "a.properties": "key = привет\n",
    "a.tmx": '<tmx version="1.4"><header srclang="ru"/><body>'
    '<tu><tuv xml:lang="ru"><seg>привет <ph>x</ph> мир</seg></tuv></tu></body></tmx>\n',
    "a.xliff": '<xliff version="1.2"><file source-language="ru" target-language="en"><body>'
    '<trans-unit id="1"><source>привет</source></trans-unit></body></file></xliff>\n',
}


def test_a_batch_is_its_texts_alone_with_as_much_to_do_as_the_engine_has_slots_for(tmp_path: Path) -> None:
    """Several sentences, spans that the model loses, terms that leave nothing to translate: by their own attempts."""
    (tmp_path / "terms.tsv").write_text("ru\ten\nфайл\tDOSSIER\n", "utf-8")
    texts = [f"Кот {n} спит. Он ест %s и {{x}}! Да?" for n in range(12)] + ["файл", "Да: `x`, нет", "line", "", "%s"]
    with Engine(Bundle.load(talkative_bundle(tmp_path / "bundle", **LIVELY["seq2seq"]))) as engine:
        translator = Translator(engine, "en", terms=Terms(str(tmp_path / "terms.tsv"), ["ru", "en"]))
        alone = [translator([text])[0] for text in texts]
        steps = engine.stats()["steps"]
        assert all("%s" in text and "{x}" in text for text in alone[:12]) and alone[12] == "DOSSIER"
        assert translator(texts) == alone
        assert 3 * (engine.stats()["steps"] - steps) < steps, "pieces, and their attempts, are side by side"


def test_a_batch_ends_with_the_engine(tiny: Path) -> None:
    engine = Engine(Bundle.load(tiny)).start()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                Translator(engine, "en")(["Кот спит. " * 20] * 200)
        except ServingError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: bool(engine.stats()["running"]), "a batch")
    engine.close(drain=False)
    thread.join(60)
    assert len(ended) == 1 and isinstance(ended[0], ShuttingDown)


def test_every_kind_of_file_is_translated(tiny: Path, tmp_path: Path, translator: Translator) -> None:
    assert {f".{name.partition('.')[2]}" for name in DOCUMENTS} == set(FORMATS)
    for name, text in DOCUMENTS.items():
        (tmp_path / name).write_bytes(text.encode())
        done = run(tiny, "--file", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr.splitlines()[-1].endswith(" texts, 100% done, about 0 s left")
        out = tmp_path / f"a.en{Path(name).suffix}"
        said = out.read_bytes().decode()
        assert said == translator.document(list(read(io.BytesIO(text.encode()), name, target="en"))).decode() != text
        for piece in KEPT[name]:
            assert said.count(piece) >= text.count(piece), f"{piece} in {said}"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, out.name]), "nothing else is left"
        out.unlink()
        (tmp_path / name).unlink()


def test_a_killed_command_goes_on_from_where_it_was(tiny: Path, tmp_path: Path, translator: Translator) -> None:
    (tmp_path / "a.txt").write_text("\n".join(LINES), "utf-8")
    (tmp_path / "b.txt").write_text("\n".join(LINES), "utf-8")
    journal, words = tmp_path / ".a.en.txt.journal", ("--file", str(tmp_path / "a.txt"))
    with subprocess.Popen(command(tiny, *words), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: journal.exists() and journal.stat().st_size > 4096, "the first translations")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "a.en.txt").exists()
    kept = journal.read_bytes()
    whole = kept.count(b"\n") - 1
    assert 0 < whole < len(LINES)
    journal.write_bytes(kept + b'"cut o')
    done = run(tiny, *words)
    assert done.returncode == 0 and f"going on after {whole:,} of {len(LINES):,} texts, done before" in done.stderr
    assert run(tiny, "--file", str(tmp_path / "b.txt")).returncode == 0
    undisturbed = (tmp_path / "b.en.txt").read_bytes()
    assert (tmp_path / "a.en.txt").read_bytes() == undisturbed == "\n".join(translator(LINES)).encode()
    assert undisturbed.decode().split("\n")[::2] == LINES[::2]
    assert not journal.exists()


def test_what_a_journal_depends_on_begins_it_anew(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("привет\n", "utf-8")
    journal, out = tmp_path / ".out.txt.journal", tmp_path / "out.txt"
    words = ("--file", str(tmp_path / "a.txt"), "--out", str(out))
    assert run(tiny, *words).returncode == 0
    first = out.read_text("utf-8")
    key = {"version": 1, "to": "en", "from": "auto", "fields": [], "bundle": Bundle.load(tiny).identity["sha256"]}
    for file, expected in (("another file", first), (None, "of before\n")):
        sha = file or sha256_file(tmp_path / "a.txt")
        journal.write_text(json.dumps({**key, "file": sha}, sort_keys=True) + '\n"of before"\n')
        assert run(tiny, *words).returncode == 0
        assert out.read_text("utf-8") == expected, "a named file is replaced"


def test_a_journal_is_one_process_s_and_ends_at_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    journal = Journal(path, {"a": 1})
    journal.append(["one", "two\nlines", "\u2028"])
    with pytest.raises(Busy, match="another process is translating this file"):
        Journal(path, {"a": 1})
    journal.close(done=False)
    path.write_bytes(path.read_bytes() + b"\0\0\0\n" + b'"lost"\n')
    again = Journal(path, {"a": 1})
    assert again.count == 3 and list(again) == ["one", "two\nlines", "\u2028"]
    again.append(["three"])
    assert list(again)[-1] == "three"
    again.close(done=False)
    other = Journal(path, {"a": 2})
    assert other.count == 0 and list(other) == []
    other.close(done=True)
    assert not path.exists()


def test_a_pipe_answers_line_by_line_and_keeps_the_order(tiny: Path, translator: Translator) -> None:
    with subprocess.Popen(command(tiny), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        for line in ("привет", "line 1", "", "42", "ещё одна"):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{translator([line])[0]}\n", "before the next line is there"
    done = run(tiny, input="\n".join(LINES))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == translator(LINES)


def test_a_reader_who_leaves_is_no_trouble(tiny: Path) -> None:
    endless = "while :; do echo 'line of text'; done"
    quoted = " ".join(f"'{word}'" for word in command(tiny))
    line = f"({endless}) 2>/dev/null | {quoted} | head -n 3; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == "" and done.stdout.splitlines() == ["line of text"] * 3 + ["0"]


def test_memory_does_not_grow_with_the_input(tiny: Path) -> None:
    def peak(lines: int) -> int:
        feed = f"yes '{'0123456789 ' * 20}' | head -n {lines}; echo привет"
        with subprocess.Popen(["bash", "-c", feed], stdout=subprocess.PIPE) as source:
            with subprocess.Popen(command(tiny), cwd=ROOT, stdin=source.stdout, stdout=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
            assert status == 0
            return usage.ru_maxrss

    assert peak(400_000) - peak(10) < 30 << 10, "in KiB, of 88 MB"


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("a.docx", [], "a.docx: not a type that is translated; those are .txt"),
        ("a.txt", ["--field", "2"], "a.txt: has no fields to choose from"),
        ("a.txt", ["--from", "de"], "from: unknown language 'de'; known: auto, ru, en"),
        ("a.txt", ["--to", "de"], "to: unknown language 'de'; known: ru, en"),
        ("a.srt", [], "a.srt:1: no cue has times"),
        ("there.txt", [], "there.en.txt: is there already; remove it, or name the file to write"),
        ("missing.txt", [], "missing.txt: No such file or directory"),
        ("", ["--out", "x"], "file: is left out, and --out and --field go with one"),
    ],
)
def test_what_cannot_be_done_is_one_line(tiny: Path, tmp_path: Path, name: str, words: list[str], message: str) -> None:
    for present in ("a.docx", "a.txt", "a.srt", "there.txt", "there.en.txt"):
        (tmp_path / present).write_text("text\n")
    before = sorted(tmp_path.iterdir())
    done = run(tiny, *(["--file", str(tmp_path / name)] if name else []), *words)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_of_running_text_does_not_translate(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="goes on with a text, and does not translate"):
        Translator(Engine(Bundle.load(tiny_bundle(tmp_path / "bundle", family="decoder"))), "en")


def test_results_come_in_order_and_errors_after_what_came_before() -> None:
    def work(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    came = []
    with pytest.raises(ValueError, match="seven"):
        for result in in_order(range(9), work):
            came.append(result)
    assert came == list(range(7))

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    results = in_order(broken(), work)
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_a_glossary_is_used_and_another_one_begins_anew(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("открой файл тут\n", "utf-8")
    (tmp_path / "terms.tsv").write_text("ru\ten\nфайл\tDOSSIER\n", "utf-8")
    words = ("--file", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out.txt"))
    assert run(tiny, *words, "--glossary", str(tmp_path / "terms.tsv")).returncode == 0
    assert "DOSSIER" in (tmp_path / "out.txt").read_text("utf-8")
    (tmp_path / "terms.tsv").write_text("ru\tde\n", "utf-8")
    done = run(tiny, *words, "--glossary", str(tmp_path / "terms.tsv"))
    assert done.returncode == 2 and "terms.tsv: the first line must name two of the bundle's languages" in done.stderr
