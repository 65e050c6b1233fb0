"""The fields of requests: a table for each address, of which both its check and its part of ``/openapi.json`` are made.

So the document cannot say what is not so: a field without a row here is refused, and one with a row is read by it.

FIELDS = {"q": texts("What to translate.", required=True), **PARAMETERS}
wanted = read_fields(body, FIELDS)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.engine.limits import DEFAULT_MAX_TOKENS, MAX_STOP_CHARS, MAX_STOPS, RANGES
from serving.errors import InvalidRequest, shown
from serving.parameters import (
    AUTO,
    FLAGS,
    FORMATS,
    MOST_TERMS,
    NAMES,
    NUMBERS,
    check_known,
    flag,
    given,
    number,
    of_type,
)

TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        about: what it means, in a sentence.
        schema: what it may be, as JSON Schema.
        read: makes its value of its name and what was sent; raises InvalidRequest.
        required: whether a request must have it.
    """

    about: str
    schema: Mapping[str, Any]
    read: Callable[[str, Any], Any]
    required: bool = False


def as_it_is(name: str, value: Any) -> Any:
    """A value that somebody else checks, or nobody because nothing depends on it."""
    return value


def text(about: str, required: bool = False) -> Field:
    """A string."""
    return Field(about, {"type": "string"}, lambda name, value: of_type(name, value, str, "a string"), required)


def texts(about: str, required: bool = False) -> Field:
    """A string, or a list of them."""

    def read(name: str, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return value
        raise InvalidRequest(name, f"must be a string or a list of strings, not {shown(value)}")

    return Field(about, TEXTS, read, required)


def truth(about: str) -> Field:
    """True or false."""
    return Field(about, {"type": "boolean"}, flag)


def whole(about: str, low: int, high: int) -> Field:
    """An integer."""

    def read(name: str, value: Any) -> int:
        found = number(name, value, int)
        if not low <= found <= high:
            raise InvalidRequest(name, f"must be between {low} and {high}, not {found}")
        return found

    return Field(about, {"type": "integer", "minimum": low, "maximum": high}, read)


def choice(about: str, *values: str, refusal: str = "") -> Field:
    """One of some strings; ``refusal`` says why not another."""

    def read(name: str, value: Any) -> str:
        if value not in values:
            raise InvalidRequest(name, refusal or f"must be {' or '.join(values)}, not {shown(value)}")
        return value

    return Field(about, {"type": "string", "enum": list(values)}, read)


def read_fields(body: Mapping[str, Any], fields: Mapping[str, Field], hint: str = "") -> dict[str, Any]:
    """The fields of a body that are given, read by their table.

    Raises:
        InvalidRequest: naming a field that is unknown, missing or not what it must be.
    """
    check_known(body, list(fields), hint=hint)
    found = {name: fields[name].read(name, value) for name, value in given(body).items()}
    for name, field in fields.items():
        if field.required and name not in found:
            raise InvalidRequest(name, "is missing")
    return found


def schema_of(fields: Mapping[str, Field]) -> dict[str, Any]:
    """A table as JSON Schema."""
    required = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "properties": {name: {**field.schema, "description": field.about} for name, field in fields.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


ABOUT = {
    "max_tokens": f"Most tokens to generate; {DEFAULT_MAX_TOKENS}, or what there is room for, when left out.",
    "temperature": "0 is greedy; above it, tokens are drawn.",
    "top_k": "Draw from so many of the likeliest tokens; 0 is all of them.",
    "top_p": "Draw from the likeliest tokens that hold this share of the probability, above 0.",
    "min_p": "Draw from tokens at least this likely, as a share of the likeliest one's probability.",
    "repetition_penalty": "Above 1, tokens that the text has already become less likely.",
    "frequency_penalty": "Above 0, tokens become less likely the oftener the text has them.",
    "seed": "Makes drawing repeatable, whatever else is served at the same time.",
    "beams": "Width of a beam search, for translation; /info tells the default, which is 1 for a stream.",
    "length_penalty": "A beam search divides its scores by length to this power.",
    "stop": f"Strings that end the text: at most {MAX_STOPS} of at most {MAX_STOP_CHARS} characters.",
    "ignore_eos": "Go on to max_tokens, for benchmarks.",
    "source": f"Language to translate from, or {AUTO}; whatever the text is in when left out.",
    "target": "Language to translate into; by the text's script when left out.",
    "author": "One of the authors that the model was trained with.",
    "split": "Whether a text to translate is cut into sentences and pieces that fit.",
    "format": "What the text is: of HTML what a reader sees is translated.",
    "glossary": f"Terms and the translations that they must have: an object, or pairs; at most {MOST_TERMS}.",
}


_TERMS = {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}}
_OTHERS: dict[str, dict[str, Any]] = {
    "stop": TEXTS,
    "split": {"type": "boolean"},
    "format": {"type": "string", "enum": list(FORMATS)},
    "glossary": {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, _TERMS]},
}


def _parameter(name: str) -> Field:
    if name in NUMBERS:
        low, high = RANGES.get(name, (1, None))
        found: dict[str, Any] = {"type": "integer" if NUMBERS[name] is int else "number"}
        found["exclusiveMinimum" if name == "top_p" else "minimum"] = low
        return Field(ABOUT[name], found if high is None else {**found, "maximum": high}, as_it_is)
    return Field(ABOUT[name], _OTHERS.get(name) or {"type": "boolean" if name in FLAGS else "string"}, as_it_is)


# What all protocols take; ``serving/parameters.py`` reads them.
PARAMETERS = {name: _parameter(name) for name in NAMES}
