"""From a request's text to the token ids a model is given: one rule for training, evaluation and serving.

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

from model.languages import language_of

from .vocabulary import Tokenizer, TokenizerError


class PromptError(ValueError):
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
    ids = encode_text(tokenizer, text)
    control = _controls(tokenizer, task, text, target, author)
    if family == "seq2seq":
        return [*control, *ids, tokenizer.eos_id]
    return [tokenizer.bos_id, *control, *ids, *([tokenizer.bos_id] if task == "translation" else [])]


def encode_text(tokenizer: Tokenizer, text: str, field: str = "text") -> list[int]:
    """``tokenizer.encode`` with errors that name ``field``."""
    if not isinstance(text, str):
        raise PromptError(field, f"expected a string, found {type(text).__name__}")
    try:
        return tokenizer.encode(text)
    except TokenizerError as error:
        raise PromptError(field, str(error)) from None


def known_languages(tokenizer: Tokenizer) -> list[str]:
    """Language codes that the tokenizer has a ``<2xx>`` token for."""
    return [token[2:-1] for token in tokenizer.control_tokens if token.startswith("<2")]


def known_authors(tokenizer: Tokenizer) -> list[str]:
    """Authors that the tokenizer has an ``<author:x>`` token for."""
    return [token[len("<author:") : -1] for token in tokenizer.control_tokens if token.startswith("<author:")]


def _controls(tokenizer: Tokenizer, task: str, text: str, target: str | None, author: str | None) -> list[int]:
    if task == "text":
        for field, value in (("target", target), ("author", author)):
            if value is not None:
                raise PromptError(field, "this model continues text and takes none; leave it out")
        return []
    languages = known_languages(tokenizer)
    if target is None:
        source = language_of(text, languages) if len(languages) == 2 else None
        if source is None:
            raise PromptError(
                "target",
                f"the text does not tell its language; say which to translate into: one of {', '.join(languages)}",
            )
        target = languages[1 - languages.index(source)]
    if target not in languages:
        raise PromptError("target", f"unknown language {target!r}; known: {', '.join(languages)}")
    control = [tokenizer.control_id(f"<2{target}>")]
    if author is not None:
        known = known_authors(tokenizer)
        if author not in known:
            raise PromptError("author", f"unknown author {author!r}; known: {', '.join(known) or 'none'}")
        control.append(tokenizer.control_id(f"<author:{author}>"))
    return control
