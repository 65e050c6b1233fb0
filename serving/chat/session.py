"""What becomes of a line: a command, or a text whose answer is written as it comes."""

import re
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from serving.chat.lines import Lines
from serving.chat.words import Words
from serving.errors import InvalidRequest
from serving.local import Model
from serving.parameters import NAMES, check_known

LEAVE = ("exit", "выход")
# What moves the cursor or changes the terminal is no text; a model's bytes may come to anything.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Session:
    """A model and what has been set for it.

    Args:
        watched: whether a person sees the output. Else standard output has the answers and nothing else.
        colours: whether it may have colours.
    """

    def __init__(self, model: Model, words: Words, *, watched: bool, colours: bool = False) -> None:
        self._model, self._words, self._watched, self._colours = model, words, watched, colours
        self._to: str | None = None
        self._options: dict[str, Any] = {}
        self._stats = False

    def converse(self, lines: Lines) -> None:
        """Answer a person until they leave."""
        translates = self._model.bundle.task == "translation"
        languages = ", ".join(self._model.bundle.languages)
        self._note(self._words.translates.format(languages=languages) if translates else self._words.continues)
        while True:
            try:
                if not self.take(lines.read(self._prompt())):
                    return
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                self._note(self._words.leave)

    def answer(self, lines: Iterable[str]) -> bool:
        """Answer a pipe, line by line; False when a line could not be answered."""
        well = True
        for line in lines:
            try:
                if not self.take(line.rstrip("\n")):
                    break
            except InvalidRequest:
                well = False
        return well

    def take(self, line: str) -> bool:
        """Do what a line says; False where it says to leave.

        Raises:
            InvalidRequest: once it was told, where nobody watches.
        """
        if line.strip().casefold() in LEAVE and not line.startswith(" "):
            return False
        try:
            if line.startswith("/"):
                self._command(*line.split(maxsplit=2))
            else:
                self._text(line)
        except InvalidRequest as error:
            self._note(self._words.error.format(sentence=f"{error.field}: {self._words.refusal(error.message)}"))
            if not self._watched:
                raise
        return True

    def _command(self, command: str, name: str = "", value: str = "") -> None:
        words = self._words
        if command == "/help":
            self._note(words.help.format(parameters=", ".join(NAMES)))
        elif command == "/stats":
            self._stats = not self._stats
            self._note(words.stats_on if self._stats else words.stats_off)
        elif command == "/to":
            self._model.check(name or None, **self._options)
            self._to = name or None
            self._note(words.into.format(language=name) if name else words.into_other)
        elif command == "/set":
            if name:
                self._set(name, value)
            told = [f"{each} = {found}" for each, found in self._options.items()]
            self._note("\n".join(told) or words.nothing_set)
        else:
            raise InvalidRequest(command, words.unknown)

    def _set(self, name: str, value: str) -> None:
        """Set a parameter, or have its default again where there is no value."""
        options = {each: found for each, found in self._options.items() if each != name}
        check_known([name], NAMES, "parameter")
        if value:
            options[name] = {"true": True, "false": False}.get(value, value)
        self._model.check(self._to, **options)
        self._options = options

    def _text(self, text: str) -> None:
        ended = True  # whether the cursor stands at the beginning of a line
        result = None
        try:
            with closing(self._model.events(text, self._to, **self._options)) as events:
                for event in events:
                    shown = _CONTROL.sub("", event.text) if self._watched else event.text
                    if shown:
                        sys.stdout.write(shown)
                        sys.stdout.flush()
                        ended = shown.endswith("\n")
                    result = event.result
        except KeyboardInterrupt:
            if not self._watched:
                raise
            print("" if ended else "\n", end="")
            self._note(self._words.stopped)
            return
        if result is not None:  # else it was refused
            print("" if ended and result.text else "\n", end="", flush=True)
            if result.finish_reason == "length" and self._model.bundle.task == "translation":
                self._note(self._words.cut)
            if self._stats:
                tokens, seconds = result.generated_tokens, result.seconds
                speed = tokens / seconds if seconds else 0.0
                self._note(self._words.stats.format(tokens=tokens, seconds=seconds, speed=speed))

    def _note(self, sentence: str) -> None:
        """Say something that is no answer."""
        sentence = f"\x1b[2m{sentence}\x1b[0m" if self._colours else sentence
        print(sentence, file=sys.stdout if self._watched else sys.stderr, flush=True)

    def _prompt(self) -> str:
        prompt = f"{self._to or ''}> "
        # What takes no place on the line is marked for readline, which counts the others.
        return f"\001\x1b[1m\002{prompt}\001\x1b[0m\002" if self._colours else prompt
