"""What a bundle says of itself to whoever meets it first: what it was trained on, and a few texts to try."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from model.config import MAX_EXAMPLES

Line = Annotated[str, Field(max_length=300)]
Natural = Annotated[int, Field(ge=0)]


class Example(TypedDict):
    """A text to try; ``language`` is empty for running text."""

    text: Line
    language: str


class Introduction(TypedDict):
    """What the model was trained on, and texts that it was not.

    ``about`` is the owner's own sentence, empty for none. ``rows`` counts pairs, or pieces of running text;
    ``characters`` those of all languages together; ``sources`` are names without their folders.
    """

    about: Line
    rows: Natural
    characters: Natural
    sources: list[Line]
    examples: Annotated[list[Example], Field(max_length=MAX_EXAMPLES)]


def sentence(found: Introduction, languages: list[str]) -> str:
    """The owner's sentence, or one made of the figures; ``languages`` is empty for a model of running text."""
    if found["about"]:
        return found["about"]
    kind = f"{'-'.join(languages)} pairs" if languages else "pieces of text"
    names = f" from {', '.join(found['sources'])}" if found["sources"] else ""
    return f"Trained on {found['rows']:,} {kind}, {found['characters']:,} characters{names}."
