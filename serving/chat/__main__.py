"""Talk to a bundle in a terminal; it speaks Russian where LC_ALL, LC_MESSAGES or LANG does.

python -m serving.chat --bundle runs/live/bundle
echo "Этот рис такой сладкий!" | python -m serving.chat --bundle runs/live/bundle
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from model.options import FAILED, OK, Parser, run
from serving.chat.lines import Lines, history_file
from serving.chat.words import words


def parser() -> Parser:
    """The bundle, and where to keep what is typed."""
    made = Parser("serving.chat", __doc__)
    made.add_argument("--bundle", required=True, help="directory of the bundle to talk to")
    made.add_argument(
        "--history",
        default="",
        metavar="FILE",
        help="where to keep what is typed; none keeps nothing (default: prometheus-mini/chat.jsonl in XDG_STATE_HOME)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Answer a person, or a pipe line by line."""
    options = parser().parse_args(argv)
    from serving.chat.session import Session
    from serving.local import load

    spoken = words(os.environ)
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a character that a terminal lacks ends nothing
    watched = sys.stdin.isatty() and sys.stdout.isatty()
    with load(options.bundle) as model:
        if not watched:
            return OK if Session(model, spoken, watched=False).answer(sys.stdin) else FAILED
        colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        Session(model, spoken, watched=True, colours=colours).converse(_lines(options.history, spoken.no_history))
        return OK


def _lines(history: str, refusal: str) -> Lines:
    """Those of the terminal; without a history where the file is of no use, which is told."""
    try:
        return Lines(None if history == "none" else Path(history) if history else history_file())
    except OSError as error:
        print(refusal.format(reason=f"{error.filename}: {error.strerror}"))
        return Lines(None)


if __name__ == "__main__":
    sys.exit(run(main))
