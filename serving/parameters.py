"""How a caller's generation parameters become an engine request: the only code that reads them.

Every protocol hands its raw parameters to :func:`read_parameters`, so names, types and the sentence of an error are
the same everywhere; ranges are checked by the engine. Numbers may come as text, because KServe's
gRPC message has no float field and its own client therefore cannot send one.

All functions that read a value raise InvalidRequest, naming the parameter and what it may be.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from model.text.glossary import GlossaryError, check_pair
from serving.errors import InvalidRequest, shown

# Sent by tritonclient and kserve's clients beside the caller's own parameters; they do not concern generation.
CLIENT_LIBRARY_PARAMETERS = frozenset(
    {"binary_data_output", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}
)
Kind = TypeVar("Kind")
# A translation has one best wording. Running text that always goes on by the likeliest token soon says one thing over
# and over, that of a model of characters above all; 0.8 is what nanoGPT draws at.
DEFAULT_TEMPERATURE = {"translation": 0.0, "text": 0.8}

NUMBERS: dict[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "frequency_penalty": float,
    "seed": int,
    "beams": int,
    "length_penalty": float,
}
CHOICES = ("source", "target", "author")  # which ones exist is known where the prompt is made
AUTO = "auto"  # the source that is to be found out
FORMATS = ("text", "html")
FLAGS = ("ignore_eos",)
NAMES = (*NUMBERS, "stop", *FLAGS, *CHOICES, "split", "format", "glossary")
MOST_TERMS = 1_000


@dataclass(frozen=True)
class Parameters:
    """Parameters of one call: what shapes the prompts, and the engine request's own fields that were given."""

    source: str | None = None  # a language, or AUTO
    target: str | None = None
    author: str | None = None
    split: bool = True  # whether a text to translate is cut into pieces
    format: str = "text"
    glossary: tuple[tuple[str, str], ...] = ()  # terms and their translations
    sampling: dict[str, Any] = field(default_factory=dict)


def read_parameters(raw: Mapping[str, Any], task: str = "translation", beams: int = 1) -> Parameters:
    """Read raw parameters; a null value counts as not given. The temperature's default is by the bundle's task.

    Args:
        beams: where none are named, and nothing is asked for that a beam search has not: to draw, or to go on for ever.
    """
    choices: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    for name, value in given(raw).items():
        if name in NUMBERS:
            sampling[name] = number(name, value, NUMBERS[name])
        elif name in FLAGS:
            sampling[name] = flag(name, value)
        elif name == "split":
            choices[name] = flag(name, value)
        elif name == "format":
            if value not in FORMATS:
                raise InvalidRequest(name, f"must be {' or '.join(FORMATS)}, not {shown(value)}")
            choices[name] = value
        elif name == "glossary":
            choices[name] = _terms(value)
        elif name == "stop":
            sampling[name] = _stops(value)
        elif name in CHOICES:
            if not isinstance(value, str) or len(value) > 64:
                raise InvalidRequest(name, f"must be a short string, not {shown(value)}")
            choices[name] = value
        elif name not in CLIENT_LIBRARY_PARAMETERS:
            raise InvalidRequest(str(name)[:64], f"unknown parameter; known: {', '.join(NAMES)}")
    if beams > 1 and not (sampling.get("temperature") or sampling.get("ignore_eos")):
        sampling.setdefault("beams", beams)
    if sampling.get("beams", 1) == 1:  # a beam search draws nothing
        sampling.setdefault("temperature", DEFAULT_TEMPERATURE[task])
    return Parameters(sampling=sampling, **choices)


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not null: null counts as not given, everywhere."""
    return {name: value for name, value in fields.items() if value is not None}


def at_least_one_token(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with a ``top_p`` of 0, which these protocols allow, as the least that leaves one token."""
    top_p = parameters.get("top_p")
    if top_p == 0 and not isinstance(top_p, bool):
        return {**parameters, "top_p": sys.float_info.min}
    return parameters


def check_known(names: Iterable[str], known: Sequence[str], what: str = "field", hint: str = "") -> None:
    """Refuse names that are not known."""
    for name in names:
        if name not in known:
            raise InvalidRequest(name[:64], f"unknown {what}; known: {', '.join(known)}{hint}")


def number(name: str, value: Any, kind: type) -> Any:
    """An int or a float, given as a number or as text."""
    found = value
    if isinstance(value, str) and len(value) <= 32:
        try:
            found = kind(value)
        except ValueError:
            found = None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        found = None
    if found is None or (kind is int and found % 1):
        raise InvalidRequest(name, f"must be {'an integer' if kind is int else 'a number'}, not {shown(value)}")
    return kind(found)


def flag(name: str, value: Any) -> bool:
    """A true or false."""
    if not isinstance(value, bool):
        raise InvalidRequest(name, f"must be true or false, not {shown(value)}")
    return value


def of_type(name: str, value: Any, kind: type[Kind], words: str) -> Kind:
    """A value that has to be there, and ``words`` what it must be."""
    if not isinstance(value, kind):
        raise InvalidRequest(name, "is missing" if value is None else f"must be {words}, not {type(value).__name__}")
    return value


def json_object(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object ``name`` of another one, empty where there is none."""
    value = parent.get(name)
    return {} if value is None else of_type(name, value, dict, "a JSON object")


def _terms(value: Any) -> tuple[tuple[str, str], ...]:
    """Terms and their translations, an object or a list of pairs; over gRPC, which has neither, its JSON."""
    words = 'must be an object of terms and their translations, such as {"сервер": "host"}, or a list of such pairs'
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidRequest("glossary", f"{words}, or the JSON of one") from None
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise InvalidRequest("glossary", f"{words}, not {shown(value)}")
    if len(pairs) > MOST_TERMS:
        most = f"has {len(pairs)} terms, more than {MOST_TERMS}; the server takes larger ones by --glossary"
        raise InvalidRequest("glossary", most)
    for pair in pairs:
        if not isinstance(pair, list | tuple) or [type(text) for text in pair] != [str, str]:
            raise InvalidRequest("glossary", f"{words}; found {shown(pair)}")
        try:
            check_pair(*pair)
        except GlossaryError as error:
            raise InvalidRequest("glossary", str(error)) from None
    return tuple((term, translation) for term, translation in pairs)


def _stops(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest("stop", f"must be a string or a list of strings, not {shown(value)}")
    return tuple(value)
