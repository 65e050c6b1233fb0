"""DeepL's text translation, version 2: ``/v2/translate``, ``/v2/languages``, ``/v2/usage``, as its own clients call it.

They lie beside the Open Inference Protocol's, which has ``/v2/models`` and ``/v2/health``. The token travels as
``Authorization: DeepL-Auth-Key TOKEN``; without the right one their status is 403.

What would change the answer and cannot be done is refused by name: glossaries and styles that are kept on their server,
a wanted formality (a preferred one yields, as theirs does for most languages), context, XML. Markup in a text counts
where ``tag_handling`` says so; where it does not, or there is none, what concerns tags changes nothing.

    deepl.DeepLClient("TOKEN", server_url="http://localhost:8080").translate_text("Привет!", target_lang="EN-GB")
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import InvalidRequest
from serving.rest.answers import json_response
from serving.rest.doors import AUTO, OWN, check_translates, languages_of, spoken, text_request, translations
from serving.rest.fields import Field, as_it_is, choice, read_fields, text, texts, truth
from serving.rest.forms import KINDS, form_fields
from serving.rest.languages import known_language, named
from serving.rest.operations import Operation, sample
from serving.service import TextService
from serving.texts import TextRequest

# What it tells who has no limit.
UNLIMITED = 1_000_000_000_000
# Targets that its clients know by their country alone.
COUNTRIES = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}
MARKUP = re.compile("[<&]")
LATENCY = "latency_optimized"


def _refused(about: str, why: str, nothing: Any = "") -> Field:
    """A field that is known, and taken only with the value that asks for nothing."""

    def read(name: str, value: Any) -> Any:
        if value != nothing or type(value) is not type(nothing):
            raise InvalidRequest(name, f"{why}; leave it out")
        return value

    return Field(about, {"type": "boolean", "enum": [False]} if nothing is False else {"enum": [nothing]}, read)


_NO_KEEPING = "is kept by DeepL and not by this server"
TRANSLATE = {
    "text": texts("What to translate: several texts, or one.", required=True),
    "target_lang": text("Language to translate into: EN, en-GB, RU.", required=True),
    "source_lang": text("Language to translate from; found out for each text when left out."),
    "split_sentences": choice(
        "1 cuts a text at its sentences and lines, 0 not at all, nonewlines only where a text has one line.",
        *("0", "1", "nonewlines"),
    ),
    "tag_handling": choice("html translates between tags; xml is taken of texts without markup.", "html", "xml"),
    "formality": choice(
        "A preferred formality yields: this model has one.",
        *("default", "prefer_more", "prefer_less"),
        refusal="this model has no levels of formality; prefer_more and prefer_less yield where there are none",
    ),
    "preserve_formatting": _refused(
        "False: nothing is corrected after the model, which writes capitals and marks as it has learned.",
        "cannot be honoured, as the model writes capitals and marks as it has learned",
        False,
    ),
    "model_type": choice("There is one model.", LATENCY, "prefer_quality_optimized"),
    "show_billed_characters": truth("Tell the length of each text; nothing is billed."),
    "tag_handling_version": choice("Taken: it is of DeepL's own program.", "v1", "v2"),
    "outline_detection": truth("Taken: it concerns XML."),
    **{
        name: Field("Taken of texts without markup, in which it concerns nothing.", {}, as_it_is)
        for name in ("non_splitting_tags", "splitting_tags", "ignore_tags")
    },
    "context": _refused("Not read.", "cannot be honoured, as the model reads the text alone"),
    **{
        name: _refused("Not kept here.", f"{_NO_KEEPING}; send pairs of terms as glossary")
        for name in ("glossary_id", "glossary_ids")
    },
    **{
        name: _refused("Not kept here.", _NO_KEEPING)
        for name in ("style_id", "translation_memory_id", "translation_memory_threshold", "custom_instructions")
    },
    "enable_beta_languages": truth("Taken: there are none."),
    **{name: field for name, field in OWN.items() if name != "split"},
}
LANGUAGES = {"type": choice("Which list: they differ in languages that DeepL wants a country for.", "source", "target")}


def routes(service: TextService) -> list[Route]:
    """``/v2/translate``, ``/v2/languages``, ``/v2/usage``."""
    config, languages = service.config, languages_of(service)
    translated = 0  # characters since the start of this process

    async def translate(request: Request) -> Response:
        nonlocal translated
        found = await form_fields(request, config, TRANSLATE)
        check_translates(service)
        found = read_fields(found, TRANSLATE)
        wanted = _request(found, languages, config.max_prompts)
        results = await translations(request, service, wanted)
        told = []
        # A text that does not tell has any language that it is translated from.
        others = [code for code in languages if code != wanted.parameters["target"]] or languages
        for source, result in zip(_given(found), results, strict=True):
            translated += len(source)
            origin = found.get("source_lang") or spoken(source, result, others)[0]
            one: dict[str, Any] = {"detected_source_language": origin.upper(), "text": result.text}
            if found.get("show_billed_characters"):
                one["billed_characters"] = len(source)
            if "model_type" in found:
                one["model_type_used"] = LATENCY
            told.append(one)
        return json_response({"translations": told})

    async def list_languages(request: Request) -> Response:
        found = read_fields(await form_fields(request, config, LANGUAGES), LANGUAGES)
        if found.get("type", "source") == "source":
            return json_response([{"language": code.upper(), "name": named(code)} for code in languages])
        targets = [target for code in languages for target in COUNTRIES.get(code, (code.upper(),))]
        return json_response(
            [{"language": target, "name": named(target), "supports_formality": False} for target in targets]
        )

    async def usage(request: Request) -> Response:
        return json_response({"character_count": translated, "character_limit": UNLIMITED})

    source, target = sample(service)
    example = {"text": [source], "target_lang": target.upper()}
    return [
        Operation(
            "POST", "/v2/translate", translate, "Translate texts.",
            fields=TRANSLATE, example=example, takes=KINDS,
        ),
        Operation("GET", "/v2/languages", list_languages, "The languages of the model.", query=LANGUAGES),
        Operation("GET", "/v2/usage", usage, "Characters that were translated since the start of the server."),
    ]  # fmt: skip


def _given(found: Mapping[str, Any]) -> list[str]:
    return found["text"] if isinstance(found["text"], list) else [found["text"]]


def _request(found: Mapping[str, Any], languages: Sequence[str], max_prompts: int) -> TextRequest:
    """What a call asks for, in our own terms."""
    given, origin = _given(found), found.get("source_lang")
    parameters: dict[str, Any] = {name: found[name] for name in OWN if name in found}
    parameters["target"] = known_language("target_lang", found["target_lang"], languages)
    parameters["source"] = known_language("source_lang", origin, languages) if origin else AUTO
    split = found.get("split_sentences")
    if split == "nonewlines" and any("\n" in text.strip() for text in given):
        raise InvalidRequest("split_sentences", "nonewlines needs texts of one line; send 0 or 1")
    if split == "0":
        parameters["split"] = False
    marked = any(map(MARKUP.search, given))
    if found.get("tag_handling") == "xml" and marked:
        raise InvalidRequest("tag_handling", "xml cannot be honoured, as a text has markup; html is handled")
    if found.get("tag_handling") == "html":
        parameters["format"] = "html"
        for name in ("non_splitting_tags", "splitting_tags", "ignore_tags"):
            if found.get(name) and marked:
                raise InvalidRequest(name, 'cannot be honoured; mark what is not to be translated translate="no"')
    names = {"text": "text", "target": "target_lang", "source": "source_lang", "format": "tag_handling"}
    return text_request(given, parameters, names, max_prompts)
