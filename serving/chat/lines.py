"""What a person types: edited by readline, with the lines of earlier times, and a pasted paragraph in one piece.

A terminal that marks what is pasted (bracketed paste) hands its lines to readline together. From any other, and with
libedit in readline's place, the lines of a paste are those that are there already when the first one is read.
"""

import json
import locale
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ENTRIES = 1000
ENTRY_CHARS = 4000  # a longer text was pasted, and is somewhere else
PASTE_SECONDS = 0.02  # within which a line of a paste follows the one before


class Lines:
    """Lines of a terminal.

    Args:
        history: file of what was typed, written line by line and readable by its owner alone; None keeps none.

    Raises:
        OSError: when the file can be neither read nor written.
    """

    def __init__(self, history: Path | None) -> None:
        self._history, self._readline = history, _readline()
        for entry in _kept(history) if history else ():
            self._remember(entry)

    def read(self, prompt: str) -> str:
        """The next line, or the lines of a paste.

        Raises:
            EOFError: for Ctrl-D. KeyboardInterrupt: for Ctrl-C.
        """
        text = input(prompt)
        try:
            while select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
                text += "\n" + input()
        except EOFError:
            pass  # the text comes first
        self._keep(text)
        return text

    def _keep(self, text: str) -> None:
        if not text.strip() or len(text) > ENTRY_CHARS:
            return
        self._remember(text)
        if self._history:
            with open(_private(self._history), "a", encoding="utf-8") as file:
                file.write(json.dumps(text, ensure_ascii=False) + "\n")

    def _remember(self, text: str) -> None:
        with suppress(UnicodeEncodeError):  # typed in another locale
            if self._readline:
                self._readline.add_history(text)


def _readline() -> Any:
    """The module; None for a Python that lacks it, where lines are typed, but not edited."""
    # Without a locale, as where the one that is asked for is not installed, it would take Cyrillic for bytes.
    with suppress(locale.Error):
        if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        import readline
    except ImportError:
        return None
    readline.set_auto_history(False)
    return readline


def history_file() -> Path:
    """Where programs keep such things: below XDG_STATE_HOME."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "prometheus-mini" / "chat.jsonl"


def _kept(path: Path) -> list[str]:
    """The newest entries of the file, which is made if need be and shortened to them."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(_private(path))
    lines = path.read_text("utf-8", "replace").splitlines()
    entries = [entry for line in lines[-ENTRIES:] if isinstance(entry := _entry(line), str)]
    if len(lines) > ENTRIES:
        shorter = path.with_name(f"{path.name}.{os.getpid()}")
        with open(_private(shorter), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        shorter.replace(path)
    return entries


def _entry(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:  # cut off by a kill, or somebody else's
        return None


def _private(path: Path) -> int:
    """Open a file to add to it, which nobody else may read."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(file, 0o600)
    return file
