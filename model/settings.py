"""Groups of settings: how they are declared, read, refused in words, and described.

A setting is a field of a pydantic model with its default, its range and a sentence, which error messages, ``--help``
(model/options.py) and an editor's JSON Schema repeat. All are read through :func:`from_dict`, so that an unknown key, a
wrong type or a value out of range is an error wherever it comes from, and all problems of a file are told together.
"""

import contextlib
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from model.errors import ProjectError


class ConfigError(ProjectError, ValueError):
    """A configuration that cannot be used; the message lists every problem, one per line."""


class Settings(BaseModel):
    """A group of settings: it cannot be changed, knows its keys, and takes no number for a word or the other way.

    A validator's message begins with what is wrong of the value; that of a whole model with the setting's name, a line
    for each problem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind is int:
            return _whole(value)  # Kubeflow carries every number inside a dict as a float
        if typing.get_origin(kind) is dict and (entries := typing.get_args(kind)[1]) is not str:
            read = _whole if int in typing.get_args(entries) else _number
            return {key: read(entry) for key, entry in value.items()} if isinstance(value, dict) else value
        return _number(value) if kind is float else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-6, without a point, as a string.
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def setting(default: Any, text: str, unit: str = "", **limits: Any) -> Any:
    """A field with its sentence, its unit, and its limits in pydantic's words (``ge``, ``gt``, ``le``, ``lt``)."""
    return Field(default, description=text, json_schema_extra={"unit": unit} if unit else None, **limits)


def section(model: type[Settings], text: str) -> Any:
    """A field that is a group of settings."""
    return Field(default_factory=model, description=text)


MAX = 2**31 - 1
Natural = Annotated[int, Field(ge=0, le=MAX)]
Count = Annotated[int, Field(ge=1, le=MAX)]
Share = Annotated[float, Field(ge=0, le=1)]
Threads = Annotated[int, Field(ge=0, le=4096)]  # 0 takes the processors at hand
T = TypeVar("T", bound=Settings)


def from_dict(model: type[T], data: Any, where: str = "") -> T:
    """Build settings from plain data; a network section may start from ``preset: <name>``.

    Raises:
        ConfigError: naming every unknown key and every value of the wrong type or out of range, together.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(error, model, where or model.__name__))) from None


def to_dict(config: Settings) -> dict[str, Any]:
    """The plain-data form of a config, fit for JSON, YAML and pipeline parameters."""
    return config.model_dump()


def differing(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of the values that two mappings, however deep, do not share.

    >>> list(differing({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}))
    ['b.c']
    """
    for name in dict.fromkeys((*one, *other)):
        left, right = one.get(name), other.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from differing(left, right, f"{prefix}{name}.")
        elif left != right:
            yield f"{prefix}{name}"


_TYPES = {"int": "int", "float": "float", "string": "text", "bool": "true or false", "list": "a list"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}


def problems(error: ValidationError, model: type[BaseModel], where: str = "") -> Iterator[str]:
    """What is wrong in a line each: where, what, and what would do."""
    for found in error.errors(include_url=False):
        path = [part for part in found["loc"] if part != "[key]"]
        place = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        group = model
        while len(path) > 1 and (inner := _group(group.model_fields[str(path[0])])):
            group, path = inner, path[1:]
        lines = _words(found, group, path).splitlines()
        place += ": " if path or found["type"] != "value_error" else "."
        yield from (f"{place}{line}".removeprefix(".") for line in lines)


def _words(found: Any, group: type[BaseModel], path: list[Any]) -> str:
    """One of pydantic's findings about a setting, in our words."""
    kind, context, value = found["type"], found.get("ctx", {}), f"{found['input']!r:.60}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"{value} is not one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    if kind == "extra_forbidden" and len(path) == 1:
        return f"unknown setting; known: {', '.join(sorted(group.model_fields))}"
    sentence = f"({str(group.model_fields[str(path[0])].description).rstrip('.')})" if path else ""
    if kind in ("extra_forbidden", "missing"):
        return f"{'unknown' if kind == 'extra_forbidden' else 'is missing'} {sentence}"
    if kind == "string_pattern_mismatch":
        return f"{value} is not of the form {context['pattern']} {sentence}"
    bounds = [f"{words} {_whole(context[bound])}" for bound, words in _BOUNDS.items() if bound in context]
    if bounds or kind == "finite_number":
        return f"must be {(bounds or ['a finite number'])[0]}, not {value} {sentence}"
    return f"expected {_TYPES.get(kind.partition('_')[0], 'a mapping')}, found {value}"


def _group(field: FieldInfo) -> type[Settings] | None:
    return field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, Settings) else None


def limits(field: FieldInfo) -> str:
    """A setting's unit and range, as in ``tokens, at least 1``; empty where any value will do."""
    extra = field.json_schema_extra
    bounds = {name: getattr(entry, name) for entry in field.metadata for name in _BOUNDS if hasattr(entry, name)}
    words = [f"{_BOUNDS[name]} {_whole(bound)}" for name, bound in bounds.items() if bound != MAX]
    return ", ".join([*([str(extra["unit"])] if isinstance(extra, dict) else []), *words])


def describe(model: type[Settings], prefix: str = "") -> list[str]:
    """One line per setting: ``name = default  (unit, range)``, and its sentence in the next."""
    lines = []
    for name, field in model.model_fields.items():
        if group := _group(field):
            lines += ["", f"# {field.description}", *describe(group, f"{prefix}{name}.")]
        else:
            bounds = f"  ({limits(field)})" if limits(field) else ""
            lines += [f"{prefix}{name} = {field.default!r}{bounds}\n    {field.description}"]
    return lines
