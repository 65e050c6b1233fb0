"""LibreTranslate's API, as Weblate, extensions of browsers, chat servers and scripts speak it.

Names, answers and statuses are LibreTranslate's; what is asked for and cannot be done is refused, not left out. Our own
parameters may stand beside theirs. Where a token is needed, ``api_key`` is it, in the body or the address: without one
their status is 400, with a wrong one 403. Languages and settings are told to everyone, as clients ask for them before
they have a key.

curl localhost:8080/translate -d '{"q": "Привет! Как дела?", "source": "auto", "target": "en"}'
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model.documents import FORMATS
from model.text.detect import detect
from serving.auth import BearerToken
from serving.errors import InvalidRequest
from serving.rest.answers import json_response
from serving.rest.documents import translated_file, translated_name
from serving.rest.doors import AUTO, OWN, check_translates, languages_of, spoken, text_request, translations
from serving.rest.downloads import KEPT_SECONDS, PATH, Downloads
from serving.rest.fields import Field, as_it_is, choice, read_fields, text, texts, whole
from serving.rest.forms import KINDS, MULTIPART, File, form_fields
from serving.rest.languages import known_language, named
from serving.rest.operations import BINARY, Operation, sample
from serving.service import TextService
from serving.texts import MAX_SAMPLES

# How alternatives are drawn: varied enough to differ, and the same ones each time.
DRAWN = {"temperature": 0.7, "top_p": 0.9, "seed": 1, "beams": 1}
PAUSE = 500  # milliseconds without a key after which a page may ask; LibreTranslate's own


def _file(name: str, value: Any) -> File:
    if not isinstance(value, File) or not value.name:
        raise InvalidRequest(name, f"must be a file with its name, sent as {MULTIPART}")
    return value


_KEY = {
    "api_key": text("The server's access token, where it has one."),
    "secret": Field("LibreTranslate's own measure against robots: taken, and not needed.", {}, as_it_is),
}
_LANGUAGES = {
    "source": text(f"Code of the language to translate from, or {AUTO}.", required=True),
    "target": text("Code of the language to translate into.", required=True),
}
TRANSLATE = {
    "q": texts("What to translate: a text, or several.", required=True),
    **_LANGUAGES,
    "format": choice("What the text is.", "text", "html"),
    "alternatives": whole("How many other translations are wanted; there may be fewer.", 0, MAX_SAMPLES),
    **_KEY,
    **OWN,
}
DETECT = {"q": text("The text whose language is asked for.", required=True), **_KEY}
FILE = {
    "file": Field(
        f"No larger than any request, and one of {', '.join(FORMATS)}.",
        {"type": "string", "format": "binary"},
        _file,
        required=True,
    ),
    **_LANGUAGES,
    **_KEY,
}


def routes(service: TextService, token: BearerToken | None) -> list[Route]:
    """``/translate``, ``/detect``, ``/languages``, ``/frontend/settings``, ``/translate_file`` and what it makes."""
    config, languages = service.config, languages_of(service)
    downloads = Downloads()

    async def fields(request: Request, known: Mapping[str, Field]) -> dict[str, Any]:
        """What a caller with the right key says."""
        found = await form_fields(request, config, known)
        if token is not None and "authorization" not in request.headers:
            token.check_key(found.get("api_key"))
        check_translates(service)
        return read_fields(found, known)

    def between(found: dict[str, Any]) -> tuple[str, str]:
        """Source, which may be auto, and target."""
        source, target = found["source"], known_language("target", found["target"], languages)
        return (AUTO if source == AUTO else known_language("source", source, languages)), target

    async def translate(request: Request) -> Response:
        found = await fields(request, TRANSLATE)
        source, target = between(found)
        q, several, count = found["q"], isinstance(found["q"], list), found.get("alternatives", 0)
        parameters = {name: found[name] for name in (*OWN, "format") if name in found}
        parameters.update(source=source, target=target)
        given = q if several else [q]
        wanted = text_request(given, parameters, {"text": "q", "n": "alternatives"}, config.max_prompts)
        results = await translations(request, service, wanted)
        said = [result.text for result in results]
        answer: dict[str, Any] = {"translatedText": said if several else said[0]}
        if source == AUTO:
            found_out = [detection(*spoken(*one, languages)) for one in zip(given, results, strict=True)]
            answer["detectedLanguage"] = found_out if several else found_out[0]
        if count:
            drawn = replace(wanted, parameters={**wanted.parameters, **DRAWN}, samples=count)
            others = iter([result.text for result in await translations(request, service, drawn)])
            groups = [different([next(others) for _ in range(count)], one) for one in said]
            answer["alternatives"] = groups if several else groups[0]
        return json_response(answer)

    async def find_language(request: Request) -> Response:
        text = (await fields(request, DETECT))["q"]
        if not text:
            raise InvalidRequest("q", "is missing")
        return json_response(detections(text, languages))

    async def translate_file(request: Request) -> Response:
        found = await fields(request, FILE)
        source, target = between(found)
        file: File = found["file"]
        downloads.check_room(len(file.content))
        content = await translated_file(request, service, file, source, target)
        name = downloads.keep(translated_name(file.name, target), content)
        return json_response({"translatedFileUrl": f"{str(request.base_url).rstrip('/')}{PATH}{name}"})

    async def download(request: Request) -> Response:
        return downloads.get(request.path_params["file"]).response()

    async def list_languages(request: Request) -> Response:
        return json_response([{"code": code, "name": named(code), "targets": languages} for code in languages])

    async def settings(request: Request) -> Response:
        target = languages[-1] if languages else ""
        return json_response(
            {
                "charLimit": config.max_chars,
                "frontendTimeout": PAUSE,
                "apiKeys": token is not None,
                "keyRequired": token is not None,
                "suggestions": False,
                "filesTranslation": True,
                "supportedFilesFormat": list(FORMATS),
                "language": {
                    "source": {"code": AUTO, "name": "Auto Detect"},
                    "target": {"code": target, "name": named(target)},
                },
            }
        )

    words, target = sample(service)
    example = {"q": words, "source": AUTO, "target": target}
    door: dict[str, Any] = {"takes": KINDS, "keyed": True}
    return [
        Operation("POST", "/translate", translate, "Translate texts.", fields=TRANSLATE, example=example, **door),
        Operation(
            "POST", "/detect", find_language, "Which languages a text may be in.",
            fields=DETECT, example={"q": words}, **door,
        ),
        Operation(
            "POST", "/translate_file", translate_file, f"Translate a file; its address lasts {KEPT_SECONDS} s.",
            fields=FILE, takes=(MULTIPART,), keyed=True,
        ),
        Operation("GET", PATH + "{file}", download, "A translated file.", gives=(BINARY,), open=True),
        Operation("GET", "/languages", list_languages, "The languages of the model.", open=True),
        Operation("GET", "/frontend/settings", settings, "What a page for LibreTranslate has to know.", open=True),
    ]  # fmt: skip


def different(others: Sequence[str], one: str) -> list[str]:
    """The others, each once, but for the empty and the one that is known."""
    return [other for other in dict.fromkeys(others) if other not in ("", one)]


def detections(text: str, languages: Sequence[str]) -> list[dict[str, Any]]:
    """The languages that a text may be in, the likeliest first, with a confidence of 0 to 100."""
    found = detect(text, languages)
    likely = [one for one in found if one.confidence > 0] or found[:1]
    return [detection(one.language, one.confidence) for one in likely]


def detection(language: str, confidence: float) -> dict[str, Any]:
    """A language and a confidence of 0 to 1, in their terms."""
    return {"confidence": round(100 * confidence, 1), "language": language}
