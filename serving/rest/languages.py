"""Codes of languages as clients write them, and their names in English."""

import re
from collections.abc import Sequence

from model.languages import primary
from serving.errors import InvalidRequest, shown

# ISO 639-1, of the languages that machine translation has most often; another one is called by its code.
_NAMES: dict[str, str] = dict(
    re.findall(
        r"(\w+) ([A-Z]\w+)",
        """
        ar Arabic az Azerbaijani be Belarusian bg Bulgarian bn Bengali bs Bosnian ca Catalan cs Czech cy Welsh da Danish
        de German el Greek en English eo Esperanto es Spanish et Estonian eu Basque fa Persian fi Finnish fr French
        ga Irish gl Galician gu Gujarati he Hebrew hi Hindi hr Croatian hu Hungarian hy Armenian id Indonesian
        is Icelandic it Italian ja Japanese ka Georgian kk Kazakh km Khmer kn Kannada ko Korean ky Kyrgyz lt Lithuanian
        lv Latvian mk Macedonian ml Malayalam mn Mongolian mr Marathi ms Malay my Burmese nb Norwegian ne Nepali
        nl Dutch no Norwegian pa Punjabi pl Polish pt Portuguese ro Romanian ru Russian sk Slovak sl Slovenian
        sq Albanian sr Serbian sv Swedish sw Swahili ta Tamil te Telugu tg Tajik th Thai tk Turkmen
        tl Tagalog tr Turkish tt Tatar uk Ukrainian ur Urdu uz Uzbek vi Vietnamese zh Chinese
        """,
    )
)


def named(code: str) -> str:
    """A language's name in English; ``Portuguese (BR)`` for ``pt-BR``."""
    base, *rest = re.split("[-_]", code)
    name = _NAMES.get(base.lower(), base)
    return f"{name} ({'-'.join(rest)})" if rest else name


def known_language(field: str, code: str, languages: Sequence[str]) -> str:
    """The model's language that a client means: in any case, with - or _, of another country if need be.

    Raises:
        InvalidRequest: naming the field, when the model has no such language.
    """
    wanted = _folded(code)
    for language in languages:
        if _folded(language) == wanted:
            return language
    for language in languages:
        if primary(language) == primary(code):
            return language
    raise InvalidRequest(field, f"{shown(code)} is not supported; this model has {', '.join(languages)}")


def _folded(code: str) -> str:
    return code.lower().replace("_", "-")
