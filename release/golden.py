"""Golden requests: a few texts whose answers are known, asked of every new pod before it counts as good.

They are the samples of its evaluation, from the summary.json beside the bundle; where there is none, a greeting is sent
in each of its languages. An answer has to come, not be empty and be the same twice; all together they have to be much
like what evaluation wrote down. Not word for word: evaluation ran many rows at once, and there, as on another
processor, sums are rounded otherwise, which turns a near tie, of which a weak model has many, into another word.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from release.cluster import ClusterError, Json

Ask = Callable[[str, str, Json | None], bytes]  # method, path, body

GREETINGS = {"ru": "Привет! Как дела?", "en": "Hello! How are you?"}
COUNT = 8
# Least mean likeness, of difflib; two random sentences of the demo have 0.22 in Russian, 0.25 in English.
ALIKE = 0.5
BUSY, TRIES = 429, 5


@dataclass(frozen=True)
class Golden:
    """A text, the language to translate it into ("" for a model of running text), and its answer if it is known."""

    prompt: str
    target: str = ""
    text: str = ""


def golden_of(summary: str | None, precision: str) -> list[Golden]:
    """From the samples of the published variant in a run's summary.json; nothing where there is none, or no such part.

    Samples of running text were drawn, not decoded greedily, so their answers are not known.
    """
    try:
        variants = json.loads(summary or "{}").get("variants") or []
        samples = [each for one in variants if one.get("variant") == precision for each in one.get("samples") or ()]
        found = [_golden(each) for each in samples if each.get("source")]
    except (AttributeError, TypeError, ValueError):  # of another version, or nobody's summary
        return []
    step = max(len(found) // COUNT, 1)
    return found[::step][:COUNT]


def _golden(sample: Mapping[str, Any]) -> Golden:
    direction = sample.get("direction") or ""
    return Golden(
        str(sample["source"]), direction.rpartition("-")[2], str(sample.get("output") or "") * bool(direction)
    )


def greetings(info: Mapping[str, Any]) -> list[Golden]:
    """What to send where nothing is known: a greeting into every language of the model."""
    languages = info.get("languages") or []
    if info.get("task") != "translation" or not languages:
        return [Golden(text) for text in GREETINGS.values()]
    sources = [code for code in languages if code in GREETINGS] or ["en"]
    return [Golden(GREETINGS[code], target) for code in sources for target in languages if target != code]


def check(ask: Ask, info: Mapping[str, Any], golden: list[Golden]) -> tuple[str, str]:
    """Send them to one pod, each twice: what is wrong ("" when nothing is), and what was seen, in a few words.

    Args:
        info: what the pod's /info says: the most tokens of an answer, the languages.
        golden: what to send; the greetings where it is empty.
    """
    golden, most = golden or greetings(info), info["limits"]["max_new_tokens"]
    likeness, differing = list[float](), ""
    for each in golden:
        # Greedy, as the samples are, whatever the bundle's own beams.
        body: Json = {"prompt": each.prompt, "max_tokens": most, "temperature": 0, "beams": 1}
        body |= {"target": each.target} if each.target else {}
        try:
            first, second = (json.loads(_patiently(ask, body)) for _ in range(2))
        except (ClusterError, ValueError) as error:
            return f"{each.prompt!r}: {error}", ""
        answer = _words(first.get("text", ""))
        if first.get("finish_reason") == "error" or not answer:
            return f"{each.prompt!r}: the answer is empty ({first.get('finish_reason')})", ""
        if answer != _words(second.get("text", "")):
            return f"{each.prompt!r}: two answers to one greedy request: {answer!r} and {second.get('text')!r}", ""
        if expected := _words(each.text):
            # An answer that was cut at the limit is held against the beginning of what evaluation has.
            expected = expected[: len(answer)] if first.get("finish_reason") == "length" else expected
            likeness.append(SequenceMatcher(None, expected, answer, autojunk=False).ratio())
            differing = differing or (f"{each.prompt!r}: {answer!r}, not {expected!r}" if likeness[-1] < ALIKE else "")
    seen = f"{len(golden)} golden requests, each twice the same"
    if not likeness:
        return "", seen
    mean = sum(likeness) / len(likeness)
    if mean < ALIKE:
        return f"the answers are {mean:.0%} like those of its evaluation, {ALIKE:.0%} is too little; {differing}", ""
    return "", f"{seen}, {likeness.count(1.0)} of {len(likeness)} word for word as evaluated, {mean:.0%} alike"


def _patiently(ask: Ask, body: Json) -> bytes:
    """One answer; a pod whose queue is full is asked again a little later."""
    for tried in range(TRIES):
        try:
            return ask("POST", "/generate", body)
        except ClusterError as error:
            if error.status != BUSY or tried == TRIES - 1:
                raise
            time.sleep(1 + tried)
    raise AssertionError("unreachable")


def _words(text: str) -> str:
    return " ".join(text.split())
