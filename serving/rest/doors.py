"""What the doors, the APIs of other services, have in common: texts in, a text for each of them or an error out."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from model.text.detect import detected
from serving.engine import GenerationResult
from serving.errors import InvalidRequest, NotServed
from serving.parameters import AUTO
from serving.rest.answers import complete
from serving.rest.fields import PARAMETERS
from serving.service import TextService
from serving.texts import TextRequest

# Our own parameters that may stand beside theirs: those that theirs have no word for.
OWN = {name: field for name, field in PARAMETERS.items() if name not in ("source", "target", "format")}


def languages_of(service: TextService) -> list[str]:
    """What the model translates between; a model of text may know languages, and translates none."""
    return list(service.bundle.languages) if service.bundle.task == "translation" else []


def check_translates(service: TextService) -> None:
    """Refuse a model that does not translate.

    Raises:
        NotServed: saying what it does.
    """
    if not languages_of(service):
        raise NotServed("this model continues texts and translates none; call /generate or /v1/completions")


def text_request(
    texts: Sequence[str], parameters: Mapping[str, Any], names: Mapping[str, str], max_prompts: int
) -> TextRequest:
    """A call in our own terms; ``names`` are the caller's words for ours.

    Raises:
        InvalidRequest: for no text, and too many of them.
    """
    name = names["text"]
    if not any(texts[:1]) and len(texts) < 2:
        raise InvalidRequest(name, "is missing; send a text, or a list of at least one")
    if len(texts) > max_prompts:
        raise InvalidRequest(name, f"{len(texts)} texts in one request; at most {max_prompts} are taken")
    given = dict(parameters)
    if given.get("source") == AUTO and (given.get("split") is False or given.get("ignore_eos")):
        del given["source"]  # such a text is translated whatever it is in
    return TextRequest(texts, given, names=names)


def spoken(text: str, result: GenerationResult, languages: Sequence[str]) -> tuple[str, float]:
    """The language that a text is in, and how sure that is, 0 to 1; the first one, and 0, where nothing tells."""
    if "source" in result.about:
        return result.about["source"] or languages[0], result.about["confidence"]
    found = detected(text, languages)
    return (found.language, found.confidence) if found else (languages[0], 0.0)


async def translations(request: Request, service: TextService, wanted: TextRequest) -> list[GenerationResult]:
    """The outcome of each text.

    Raises:
        ServingError: of the first text that is in fault, as these APIs have no place for it beside the others.
    """
    results = await complete(request, service, wanted)
    for result in results:
        if result.error is not None:
            raise result.error
    return results
