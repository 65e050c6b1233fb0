"""Addresses of people and machines, replaced by those that are reserved for documentation.

    mask("Write to anna@work.org", found) == "Write to name@example.com"  # and found["email"] == 1

So a sentence stays one, a model still learns to copy such things, and no word of another alphabet comes into it. Phone
numbers are known in international form (+7 495 123-45-67), and in the national forms of Russia (8 (495) 123-45-67) and
North America ((202) 555-0143). What looks like an address and is none, as a version of four numbers, is masked, too.
"""

import ipaddress
import re
from collections import Counter
from functools import partial

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_RULES = {
    # RFC 2606 reserves example.com.
    "email": (
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,63}(?![\w-])"),
        "name@example.com",
    ),
    "ip": (re.compile(rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\w)"), "192.0.2.1"),  # RFC 5737
    "phone": (
        re.compile(
            r"(?<![\w+])(?:\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}"
            r"|8[ -]?(?:\([0-9]{3,5}\)|[0-9]{3})(?:[ -]?[0-9]){7}"
            r"|(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4})(?![\w])"
        ),
        "+1 202-555-0100",  # reserved by the North American numbering plan
    ),
}  # fmt: skip
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]*:[0-9A-Fa-f]*:[0-9A-Fa-f:]*(?![\w:])")
_LONG_GROUP = re.compile("[0-9A-Fa-f]{3}")
_DIGIT_OR_AT = re.compile("[0-9@]|::")


def mask(text: str, found: Counter[str]) -> str:
    """The text without addresses; ``found`` counts them by kind: ``email``, ``ip`` and ``phone``."""
    if not _DIGIT_OR_AT.search(text):
        return text
    for kind, (pattern, reserved) in _RULES.items():
        text, count = pattern.subn(reserved, text)
        if count:
            found[kind] += count
    return _IPV6.sub(partial(_version_6, found), text) if text.count(":") > 1 else text


def _version_6(found: Counter[str], match: re.Match[str]) -> str:
    try:
        ipaddress.IPv6Address(match[0])
    except ValueError:
        return match[0]
    # a::b is a name in C++, and 1:: a revision.
    if match[0] != "::1" and not (_LONG_GROUP.search(match[0]) and _DIGIT_OR_AT.search(match[0].replace("::", ":"))):
        return match[0]
    found["ip"] += 1
    return "2001:db8::1"  # RFC 3849
