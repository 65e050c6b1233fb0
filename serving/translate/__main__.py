"""Translate a file, or standard input line by line; the engine runs in this process.

    python -m serving.translate --bundle runs/live/bundle --to en --file guide.md
    tail -f chat.log | python -m serving.translate --bundle runs/live/bundle --to en

A file is written whole or not at all. A command that was stopped goes on, when it is given again, from where it was.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO

from model.bundle import Bundle
from model.documents import FORMATS, Part, Segment, read
from model.files import sha256_file
from model.options import OK, Parser, run
from serving.engine import Engine
from serving.errors import InvalidRequest
from serving.parameters import AUTO
from serving.translate.file import FileTranslation
from serving.translate.order import in_order, ready_batches
from serving.translate.texts import Translator
from serving.ways import Terms


def parser() -> Parser:
    """What is translated, by what, and where to."""
    made = Parser("serving.translate", __doc__)
    made.add_argument("--bundle", required=True, help="directory of the bundle that translates")
    made.add_argument("--to", required=True, help="language to translate into")
    made.add_argument("--from", dest="source", default=AUTO, help="language of the text (default: auto)")
    made.add_argument("--file", default="", help=f"a file ({', '.join(FORMATS)}); standard input when left out")
    made.add_argument("--out", default="", help="file to write, replaced if it is there (default: such as guide.en.md)")
    made.add_argument(
        "--field",
        action="append",
        default=[],
        help="what to translate, repeatable: of a .tsv a column's number, of a .jsonl a name",
    )
    made.add_argument("--glossary", default="", help="file of terms and their translations (docs/text.md)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Translate; progress and the time left go to standard error."""
    options = parser().parse_args(argv)
    file = None
    if options.file:  # what is wrong with it is said before a model is loaded
        how = {"to": options.to, "from": options.source, "fields": options.field}
        if options.glossary:
            how["glossary"] = sha256_file(Path(options.glossary))
        file = FileTranslation(Path(options.file), options.out, how)
    elif options.out or options.field:
        raise InvalidRequest("file", "is left out, and --out and --field go with one; standard input has neither")
    engine = Engine(Bundle.load(options.bundle))
    try:
        terms = Terms(options.glossary, engine.bundle.languages)
        translator = Translator(engine, options.to, options.source, terms)
    except InvalidRequest as error:
        raise InvalidRequest({"source": "from", "target": "to"}.get(error.field, error.field), error.message) from None
    with engine:
        if file:
            with contextlib.redirect_stdout(sys.stderr):
                file.run(translator)
        else:
            _pipe(sys.stdin.buffer, sys.stdout.buffer, translator)
    return OK


def _pipe(source: IO[bytes], out: IO[bytes], translator: Translator) -> None:
    """Lines as they come, in order."""
    if source.isatty():
        print("type lines to translate; Ctrl-D ends", file=sys.stderr)
    every = read(source, "standard input.txt", target=translator.target, languages=translator.languages)
    parts = (part for part in every if part)
    with closing(in_order(ready_batches(parts, _size), translator.document)) as blocks:
        try:
            for block in blocks:
                out.write(block)
                out.flush()
        except BrokenPipeError:  # the reader has seen enough, and make should not call that an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _size(part: Part) -> int:
    return len(part.text) if isinstance(part, Segment) else 0


if __name__ == "__main__":
    sys.exit(run(main))
