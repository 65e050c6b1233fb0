"""From text to the token ids a model is given: one rule for training, calibration, evaluation and serving.

========  ===========  =======================================================
family    task         prompt
========  ===========  =======================================================
seq2seq   translation  ``<2xx> [<author:x>] text </s>`` (the decoder starts from ``<s>``)
decoder   translation  ``<s> <2xx> [<author:x>] text <s>`` (continues until ``</s>``)
decoder   text         ``<s> text``
========  ===========  =======================================================

``<2xx>`` names the target language. Of two languages with different scripts, the text's letters tell which one it is
not, so that a request may leave the target out.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.errors import ProjectError
from model.languages import language_of
from model.tokenizer.vocabulary import Tokenizer, TokenizerError


class PromptError(ProjectError, ValueError):
    """A request that cannot become a prompt; ``field`` names the part at fault, as the message does."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


def encode_prompt(
    tokenizer: Tokenizer, *, family: str, task: str, text: str, target: str | None = None, author: str | None = None
) -> list[int]:
    """Token ids of a prompt; see the module's table.

    Raises:
        PromptError: naming the field: a target or author that the model does not know, a target that is missing and
            cannot be told from the text, one that has no meaning for the task, a text that is not valid Unicode.
    """
    if (family, task) not in {("seq2seq", "translation"), ("decoder", "translation"), ("decoder", "text")}:
        raise PromptError("task", f"a {family} model cannot do {task!r}")
    if not isinstance(text, str):
        raise PromptError("text", f"expected a string, found {type(text).__name__}")
    try:
        ids = tokenizer.encode(text)
    except TokenizerError as error:
        raise PromptError("text", str(error)) from None
    if task == "text":
        for field, value in (("target", target), ("author", author)):
            if value is not None:
                raise PromptError(field, "this model continues text and takes none; leave it out")
        return lay_out(tokenizer, family, ids)
    languages, authors = _names(tokenizer, "<2"), _names(tokenizer, "<author:")
    target = target if target is not None else _other_language(text, languages)
    if target not in languages:
        raise PromptError("target", f"unknown language {target!r}; known: {', '.join(languages)}")
    if author is not None and author not in authors:
        raise PromptError("author", f"unknown author {author!r}; known: {', '.join(authors) or 'none'}")
    return lay_out(tokenizer, family, ids, target, author)


def lay_out(
    tokenizer: Tokenizer, family: str, text: Sequence[int], target: str | None = None, author: str | None = None
) -> list[int]:
    """The prompt around a text's ids, see the module's table; it is translation where there is a ``target``.

    Raises:
        TokenizerError: for a target or author without a control token.
    """
    control = [] if target is None else [tokenizer.control_id(f"<2{target}>")]
    if author is not None:
        control.append(tokenizer.control_id(f"<author:{author}>"))
    if family == "seq2seq":
        return [*control, *text, tokenizer.eos_id]
    return [tokenizer.bos_id, *control, *text, *([] if target is None else [tokenizer.bos_id])]


def _names(tokenizer: Tokenizer, prefix: str) -> list[str]:
    """What the control tokens of one kind name: languages for ``<2``, authors for ``<author:``."""
    return [token[len(prefix) : -1] for token in tokenizer.control_tokens if token.startswith(prefix)]


def _other_language(text: str, languages: list[str]) -> str:
    """The language to translate a text into, where its letters tell which of two it is in."""
    source = language_of(text, languages) if len(languages) == 2 else None
    if source is None:
        raise PromptError(
            "target",
            f"the text does not tell its language; say which to translate into: one of {', '.join(languages)}",
        )
    return languages[1 - languages.index(source)]
