"""Rows with answers: beside its own text in a language, a row may have another that is to be written in its place.

A source is always what people wrote; its answer may be a teacher's translation (evaluation/distillation.py). So a row
with both its answers serves both directions, each with a true source.
"""


def answer(language: str) -> str:
    """The key of a record's answer in a language; no language code has a space."""
    return f"{language} answer"


def is_answer(field: str) -> bool:
    """Whether a record's key is one of an answer."""
    return field.endswith(" answer")
