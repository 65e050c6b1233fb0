"""From text to the token ids a model is given: one rule for training, calibration, evaluation and serving.

Prompts for what is asked of a model, and examples, prompts with their answers, for what it is trained on, calibrated
with and scored by.

========  ===========  =======================================================
family    task         prompt
========  ===========  =======================================================
seq2seq   translation  ``<2xx> [names] text </s>`` (the decoder starts from ``<s>``)
decoder   translation  ``<s> <2xx> [names] text <s>`` (continues until ``</s>``)
decoder   text         ``<s> text``
========  ===========  =======================================================

``<2xx>`` names the target language, and ``names`` are ``<author:x>`` and ``<domain:y>``, either of which may be left
out. Of two languages with different scripts, the text's letters tell which one it is not, so that a request may leave
the target out.

The text is cleaned as those were that the model was trained on: the line of a translation by ``clean_source``, running
text by ``clean_text`` (:mod:`model.text.cleaning`).

Legend: B rows, S tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import ProjectError
from model.languages import language_of
from model.text.cleaning import clean_source, clean_text
from model.tokenizer.vocabulary import Tokenizer, TokenizerError, normalize


class PromptError(ProjectError, ValueError):
    """A request that cannot become a prompt; ``field`` names the part at fault, as the message does."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


def encode_prompt(
    tokenizer: Tokenizer,
    *,
    family: str,
    task: str,
    text: str,
    target: str | None = None,
    author: str | None = None,
    domain: str | None = None,
) -> list[int]:
    """Token ids of a prompt; see the module's table.

    Raises:
        PromptError: naming the field: a target, author or domain that the model does not know, a target that is missing
            and cannot be told from the text, one that has no meaning for the task, a text that is not valid Unicode.
    """
    if (family, task) not in {("seq2seq", "translation"), ("decoder", "translation"), ("decoder", "text")}:
        raise PromptError("task", f"a {family} model cannot do {task!r}")
    if not isinstance(text, str):
        raise PromptError("text", f"expected a string, found {type(text).__name__}")
    clean = clean_text if task == "text" else clean_source
    try:
        text = clean(normalize(text))  # a lone surrogate, half of what was meant, is refused and not cleaned away
        ids = tokenizer.encode(text)
    except TokenizerError as error:
        raise PromptError("text", str(error)) from None
    if task == "text":
        for field, value in (("target", target), ("author", author), ("domain", domain)):
            if value is not None:
                raise PromptError(field, "this model continues text and takes none; leave it out")
        return _lay_out(tokenizer, family, ids)
    languages = _names(tokenizer, "<2")
    target = target if target is not None else other_language(text, languages)
    if target not in languages:
        raise PromptError("target", f"unknown language {target!r}; known: {', '.join(languages)}")
    for field, value in (("author", author), ("domain", domain)):
        if value is not None and value not in (known := _names(tokenizer, f"<{field}:")):
            raise PromptError(field, f"unknown {field} {value!r}; known: {', '.join(known) or 'none'}")
    return _lay_out(tokenizer, family, ids, target, author, domain)


@dataclass(frozen=True)
class Example:
    """A prompt, and the answer that a network of this family is to give, token by token."""

    family: str
    prompt: list[int]
    answer: list[int]  # ends with </s>, but where running text goes on in another window

    @property
    def source(self) -> list[int]:
        """What the encoder reads; nothing for the decoder-only family."""
        return self.prompt if self.family == "seq2seq" else []

    @property
    def inputs(self) -> list[int]:
        """What the decoder reads."""
        return [*([Tokenizer.bos_id] if self.family == "seq2seq" else self.prompt), *self.answer[:-1]]

    @property
    def labels(self) -> list[int]:
        """What the decoder is to say after each of the inputs; padding where it is not asked."""
        return [Tokenizer.pad_id] * (len(self.inputs) - len(self.answer)) + self.answer

    @property
    def width(self) -> int:
        """Positions that it takes on its longer side."""
        return max(len(self.source), len(self.inputs))


def pair_example(
    tokenizer: Tokenizer,
    family: str,
    text: Sequence[int],
    translation: Sequence[int],
    target: str,
    author: str | None = None,
    domain: str | None = None,
) -> Example:
    """The example of two texts' ids; ``target`` is the language of the translation."""
    prompt = _lay_out(tokenizer, family, text, target, author, domain)
    return Example(family, prompt, [*translation, tokenizer.eos_id])


def text_windows(tokenizer: Tokenizer, text: Sequence[int], size: int, first: int = 0) -> Iterator[Example]:
    """Running text in consecutive windows of at most ``size`` tokens, the first one of ``first`` where that is given.

    Each token is predicted once, from the tokens before it in its window.
    """
    ids = [*_lay_out(tokenizer, "decoder", text), tokenizer.eos_id]
    start, end = 0, first or size
    while start < len(ids) - 1:
        yield Example("decoder", ids[start : start + 1], ids[start + 1 : end + 1])
        start, end = end, end + size


def pad(rows: Sequence[Sequence[int]], multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Token rows -> ids i64 [B, S], padded to the right to the longest (S rounded up), and lengths i64 [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), -(-int(lengths.max()) // multiple) * multiple), Tokenizer.pad_id, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, lengths


def _lay_out(
    tokenizer: Tokenizer,
    family: str,
    text: Sequence[int],
    target: str | None = None,
    author: str | None = None,
    domain: str | None = None,
) -> list[int]:
    """The prompt around a text's ids, see the module's table; it is translation where there is a ``target``.

    Raises:
        TokenizerError: for a target, author or domain without a control token.
    """
    control = [] if target is None else [tokenizer.control_id(f"<2{target}>")]
    if author is not None:
        control.append(tokenizer.control_id(f"<author:{author}>"))
    if domain is not None:
        control.append(tokenizer.control_id(f"<domain:{domain}>"))
    if family == "seq2seq":
        return [*control, *text, tokenizer.eos_id]
    return [tokenizer.bos_id, *control, *text, *([] if target is None else [tokenizer.bos_id])]


def _names(tokenizer: Tokenizer, prefix: str) -> list[str]:
    """What the control tokens of one kind name: languages for ``<2``, authors for ``<author:``, domains."""
    return [token[len(prefix) : -1] for token in tokenizer.control_tokens if token.startswith(prefix)]


def other_language(text: str, languages: Sequence[str]) -> str:
    """The language to translate a text into, where its letters tell which of two it is in.

    Raises:
        PromptError: where they do not.
    """
    source = language_of(text, languages) if len(languages) == 2 else None
    if source is None:
        raise PromptError(
            "target",
            f"the text does not tell its language; say which to translate into: one of {', '.join(languages)}",
        )
    return languages[1 - languages.index(source)]
