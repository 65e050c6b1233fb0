"""Train a tokenizer on a corpus and report how it treats each language.

The training text is a sample of whole rows, spread evenly over the corpus by a seed and streamed, so memory does not
grow with the corpus, and both languages of a pair weigh the same. The report is measured on the ``valid`` split, which
the vocabulary has not seen.

    python -m model.tokenizer CORPUS --out DIR
"""

import itertools
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from model.config import TokenizerConfig
from model.corpus import read_card, read_split
from model.files import replace_directory, sha256_file, write_json
from model.row_counts import RowCount, row_count, sentence
from model.tokenizer import Tokenizer, TokenizerError, load_tokenizer
from model.tokenizer.character import collect_characters
from model.tokenizer.subword import MODEL, train_subwords
from model.tokenizer.vocabulary import FORMAT_VERSION, MANIFEST, NORMALIZATION, control_tokens, normalize

REPORT = "tokenizer_report.json"
REPORT_ROWS = 2000


def train_tokenizer(
    corpus_dir: str | Path,
    out: str | Path,
    config: TokenizerConfig,
    holdout_dir: str | Path | None = None,
    taken: Path | None = None,
) -> dict[str, Any]:
    """Train a tokenizer into the directory ``out``, replacing an earlier one, and return its report.

    The result appears under ``out`` whole or not at all. Where the corpus is in two parts, the report is made on the
    valid split in ``holdout_dir``.

    Args:
        taken: a tokenizer's directory, which is copied instead, for weights that know it; ``config`` has no say then.

    Raises:
        TokenizerError: for a corpus without text or a vocabulary too small for it; for one that is taken and does not
            know the corpus's languages or authors.
    """
    started = time.perf_counter()
    out, card = Path(out), read_card(corpus_dir)
    control = control_tokens(card["languages"], card.get("authors", []), card.get("domains", {}))
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise TokenizerError(f"{out}: holds something other than a tokenizer; choose another directory")

    def fill(directory: Path) -> dict[str, Any]:
        if taken:
            _take(taken, directory, control)
        else:
            _learn(directory, sample_lines(corpus_dir, card, config.sample_lines, config.seed), config, control)
        trained_seconds = time.perf_counter() - started
        tokenizer = load_tokenizer(directory)
        split, languages = measure(tokenizer, holdout_dir or corpus_dir, card)
        sampled = 0 if taken else sampled_rows(card, config.sample_lines)
        row_counts = _row_counts(card, sampled, split, next(iter(languages.values()))["rows"])
        print(sentence(row_counts), flush=True)
        report = {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "requested_vocab_size": tokenizer.vocab_size if taken else config.vocab_size,
            "control_tokens": list(tokenizer.control_tokens),
            "normalization": NORMALIZATION,
            "sampled_lines": row_counts[0]["used"] * len(text_fields(card)),
            "measured_on": split,
            "row_counts": row_counts,
            "languages": languages,
            "sha256": tokenizer.content_hash(),
            "sentencepiece": sentencepiece.__version__,
            "training_seconds": round(trained_seconds, 3),
            "seconds": round(time.perf_counter() - started, 3),
        }
        write_json(directory / REPORT, report)
        return report

    return replace_directory(out, fill)


def _learn(directory: Path, lines: Iterator[str], config: TokenizerConfig, control: Sequence[str]) -> None:
    """Write the files of a tokenizer that is trained on the lines."""
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": config.kind,
        "normalization": NORMALIZATION,
        "control_tokens": list(control),
    }
    if config.kind == "char":
        manifest["characters"] = collect_characters(lines, config, control)
    else:
        (directory / MODEL).write_bytes(train_subwords(lines, config, control))
        manifest["model_sha256"] = sha256_file(directory / MODEL)
    write_json(directory / MANIFEST, manifest)


def _take(taken: Path, directory: Path, control: Sequence[str]) -> None:
    """Copy the files of a tokenizer that knows these control tokens."""
    tokenizer = load_tokenizer(taken)
    if unknown := [token for token in control if token not in tokenizer.control_tokens]:
        raise TokenizerError(
            f"the corpus has {', '.join(unknown)}, and the tokenizer of the weights to begin with knows "
            f"{', '.join(tokenizer.control_tokens)}: begin without init_from, or with text in its languages and authors"
        )
    for name in tokenizer.files:
        shutil.copyfile(taken / name, directory / name)


def _row_counts(card: dict[str, Any], sampled: int, split: str, measured: int) -> list[RowCount]:
    rows = card["counts"]["train"]
    beyond = {f"beyond the {REPORT_ROWS:,} that are measured": card["counts"][split] - measured}
    why = "beyond tokenizer.sample_lines" if sampled else "not needed: the tokenizer is that of init_from"
    return [
        row_count("tokenizer", "train", rows, sampled, {why: rows - sampled}),
        row_count("tokenizer report", split, card["counts"][split], measured, beyond),
    ]


def sampled_rows(card: dict[str, Any], limit: int) -> int:
    """How many rows of the train split hold about ``limit`` texts."""
    return min(card["counts"]["train"], max(1, limit // len(text_fields(card))))


def sample_lines(corpus_dir: str | Path, card: dict[str, Any], limit: int, seed: int) -> Iterator[str]:
    """About ``limit`` texts of the train split, every side of each chosen row; in the order of the corpus.

    Rows are chosen by selection sampling (Knuth, TAOCP vol. 2, 3.4.2, algorithm S): one pass, no buffer.
    """
    rows, wanted = card["counts"]["train"], sampled_rows(card, limit)
    chance = random.Random(seed)
    for i, record in enumerate(read_split(corpus_dir, "train")):
        if not wanted:
            return
        if chance.random() * (rows - i) < wanted:
            wanted -= 1
            yield from (record[field] for field in text_fields(card))


def text_fields(card: dict[str, Any]) -> list[str]:
    """Keys of a record's texts: the language codes of a parallel corpus, else ``text``."""
    return list(card["languages"]) if card["kind"] == "parallel" else ["text"]


def measure(tokenizer: Tokenizer, corpus_dir: str | Path, card: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The split measured, and by language: counts, tokens per word and per character, fallback rates.

    ``byte_fallback_rate`` is the share of characters without a piece of their own, written as bytes;
    ``unknown_rate`` the share of tokens that are ``<unk>``, which byte fallback keeps at zero.
    """
    split = "valid" if card["counts"]["valid"] else "train"
    records = list(itertools.islice(read_split(corpus_dir, split), REPORT_ROWS))
    languages = {}
    for field in text_fields(card):
        texts = [normalize(record[field]) for record in records]
        encoded = tokenizer.encode_batch(texts)
        words, characters = sum(len(text.split()) for text in texts), sum(map(len, texts))
        tokens = sum(map(len, encoded))
        fallen = [i for ids in encoded for i in ids if tokenizer.is_byte(i)]
        # Every character has exactly one byte that is not a UTF-8 continuation byte (0b10xxxxxx).
        characters_as_bytes = sum(tokenizer.token_bytes(i)[0] & 0xC0 != 0x80 for i in fallen)
        languages[field] = {
            "rows": len(texts),
            "words": words,
            "characters": characters,
            "tokens": tokens,
            "tokens_per_word": _ratio(tokens, words),
            "tokens_per_character": _ratio(tokens, characters),
            "byte_fallback_rate": _ratio(characters_as_bytes, characters, 6),
            "unknown_rate": _ratio(sum(ids.count(tokenizer.unk_id) for ids in encoded), tokens, 6),
        }
    return split, languages


def _ratio(part: float, whole: float, digits: int = 4) -> float:
    return round(part / whole, digits) if whole else 0.0
