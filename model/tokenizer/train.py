"""Train a tokenizer on a corpus and report how it treats each language.

The training text is a sample of whole rows, spread evenly over the corpus by a seed and streamed, so memory does not
grow with the corpus, and both languages of a pair weigh the same. The report is measured on the ``valid`` split, which
the vocabulary has not seen.

    python -m model.tokenizer CORPUS --out DIR
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from model.config import TokenizerConfig
from model.corpus import read_card, read_split
from model.files import replace_directory, sha256_file, write_json
from model.row_counts import row_count, sentence
from model.tokenizer import load_tokenizer
from model.tokenizer.character import collect_characters
from model.tokenizer.sentencepiece_ import MODEL, train_model
from model.tokenizer.vocabulary import (
    FORMAT_VERSION,
    MANIFEST,
    NORMALIZATION,
    Tokenizer,
    TokenizerError,
    control_tokens,
)

REPORT = "tokenizer_report.json"
REPORT_ROWS = 2000


def train_tokenizer(corpus_dir: str | Path, out: str | Path, config: TokenizerConfig) -> dict[str, Any]:
    """Train a tokenizer into the directory ``out``, replacing an earlier one, and return its report.

    The result appears under ``out`` whole or not at all.

    Raises:
        TokenizerError: for a corpus without text or a vocabulary too small for it.
    """
    started = time.perf_counter()
    card = read_card(corpus_dir)
    control = control_tokens(card["languages"], card.get("authors", []))
    lines = _CountedLines(sample_lines(corpus_dir, card, config.sample_lines, config.seed))
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": config.kind,
        "normalization": NORMALIZATION,
        "control_tokens": list(control),
    }
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise TokenizerError(f"{out}: holds something other than a tokenizer; choose another directory")

    def fill(directory: Path) -> dict[str, Any]:
        if config.kind == "char":
            manifest["characters"] = collect_characters(lines, config.vocab_size, config.character_coverage, control)
        else:
            model = train_model(lines, config.kind, config.vocab_size, config.character_coverage, control)
            (directory / MODEL).write_bytes(model)
            manifest["model_sha256"] = sha256_file(directory / MODEL)
        write_json(directory / MANIFEST, manifest)
        trained_seconds = time.perf_counter() - started
        tokenizer = load_tokenizer(directory)
        split, languages = measure(tokenizer, corpus_dir, card)
        counts = card["counts"]
        sampled, measured = lines.count // len(text_fields(card)), next(iter(languages.values()))["rows"]
        beyond = f"beyond the {REPORT_ROWS:,} that are measured"
        row_counts = [
            row_count("tokenizer", "train", counts["train"], sampled,
                      {"beyond tokenizer.sample_lines": counts["train"] - sampled}),
            row_count("tokenizer report", split, counts[split], measured, {beyond: counts[split] - measured}),
        ]  # fmt: skip
        print(sentence(row_counts), flush=True)
        report = {
            "kind": config.kind,
            "vocab_size": tokenizer.vocab_size,
            "requested_vocab_size": config.vocab_size,
            "control_tokens": list(control),
            "normalization": NORMALIZATION,
            "sampled_lines": lines.count,
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


def sample_lines(corpus_dir: str | Path, card: dict[str, Any], limit: int, seed: int) -> Iterator[str]:
    """About ``limit`` texts of the train split, every side of each chosen row; in the order of the corpus.

    Rows are chosen by selection sampling (Knuth, TAOCP vol. 2, 3.4.2, algorithm S): one pass, no buffer.
    """
    fields = text_fields(card)
    rows = card["counts"]["train"]
    wanted = min(rows, max(1, limit // len(fields)))
    chance = random.Random(seed)
    taken = 0
    for i, record in enumerate(read_split(corpus_dir, "train")):
        if taken == wanted:
            return
        if chance.random() * (rows - i) < wanted - taken:
            taken += 1
            for field in fields:
                yield record[field]


def text_fields(card: dict[str, Any]) -> list[str]:
    """Keys of a record's texts: the language codes of a parallel corpus, else ``text``."""
    return list(card["languages"]) if card["kind"] == "parallel" else ["text"]


def measure(tokenizer: Tokenizer, corpus_dir: str | Path, card: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The split measured, and by language: counts, tokens per word and per character, fallback rates.

    ``byte_fallback_rate`` is the share of characters without a piece of their own, written as bytes;
    ``unknown_rate`` the share of tokens that are ``<unk>``, which byte fallback keeps at zero.
    """
    for split in ("valid", "train"):
        records = [record for record, _ in zip(read_split(corpus_dir, split), range(REPORT_ROWS), strict=False)]
        if records:
            break
    languages = {}
    for field in text_fields(card):
        texts = [tokenizer.normalize(record[field]) for record in records]
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


class _CountedLines:
    """An iterator that knows how many lines went through it."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line


def _ratio(part: float, whole: float, digits: int = 4) -> float:
    return round(part / whole, digits) if whole else 0.0
