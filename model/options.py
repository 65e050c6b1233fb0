"""The one dialect of all command lines: options made from settings; wrong input is one sentence and exit status 2.

def parser() -> Parser:
    made = Parser("serving", "Serve a bundle.")
    made.add_settings(EngineConfig)          # --slots, --queue, ... with sentence, unit, range and default
    return made

def main(argv: Sequence[str] | None = None) -> int:
    engine = read_settings(EngineConfig, parser().parse_args(argv))

if __name__ == "__main__":
    sys.exit(run(main))
"""

import argparse
import json
import os
import re
import sys
import typing
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from model.errors import ProjectError
from model.settings import ConfigError, Settings, T, from_dict, limits

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """The parser of ``python -m module``: no option is abbreviated, and a complaint is one sentence."""

    def __init__(self, module: str, description: str | None, epilog: str = "") -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Leave with the complaint."""
        self.exit(USAGE, f"{self.prog}: {message}; --help shows every option\n")

    def add_settings(
        self,
        model: type[Settings],
        title: str = "settings",
        required: Collection[str] = (),
        leave_out: Collection[str] = (),
    ) -> None:
        """An option for every setting of the model; one that is not given keeps the model's default."""
        group = self.add_argument_group(title)
        for name, field in model.model_fields.items():
            if name in leave_out:
                continue
            kind = {**_kind(field.annotation), "default": argparse.SUPPRESS, "required": name in required}
            group.add_argument(f"--{name}", help=_help(field), **kind)


def read_settings(model: type[T], options: argparse.Namespace, **more: Any) -> T:
    """The model of what was given on the command line, and of what ``more`` says.

    Raises:
        ConfigError: naming every option that is out of range.
    """
    given = {name: value for name, value in vars(options).items() if name in model.model_fields}
    try:
        return from_dict(model, given | more, "-")
    except ConfigError as error:
        raise ConfigError(re.sub(r"(?m)^-\.", "--", str(error))) from None


def run(main: Callable[[], int]) -> int:
    """The exit status of a command: 2 with a sentence for what a person can put right; a bug keeps its traceback."""
    try:
        status = main()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ProjectError as error:
        sentence = "\n  ".join(str(error).splitlines())
    except OSError as error:
        if error.filename is None:
            raise
        sentence = f"{os.fsdecode(error.filename)}: {error.strerror}"
    print(f"error: {sentence}", file=sys.stderr)
    return USAGE


def _help(field: FieldInfo) -> str:
    default = "" if field.default in ("", [], {}) else f"default: {field.default}"
    notes = "; ".join(note for note in (limits(field), default) if note)
    return f"{field.description} ({notes})".removesuffix(" ()").replace("%", "%%")


def _kind(annotation: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return {"choices": arguments}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is list:
        return {"nargs": "+", **_kind(arguments[0])}
    if origin is dict:
        return {"type": _mapping, "metavar": "JSON"}
    if origin is typing.Annotated:
        return _kind(arguments[0])
    return {"type": annotation, "metavar": annotation.__name__.upper()}


def _mapping(text: str) -> Any:
    return json.loads(text)


_mapping.__name__ = "JSON"  # as argparse names it in a complaint
