"""A split's texts as token ids in flat arrays: tokenised once for all passes, and mapped into memory from a folder.

    tokens.json              what it was made of; of each array its dtype, length and SHA-256
    ru.ids       u16 or u32  the ids of all rows, one after another
    ru.offsets   i64         where each row's ids begin, and the end
    ru.source.ids, .offsets  the same of a language's texts as sources have them; nothing for one that is so already
    ru.typed.ids, .offsets   the same of its sources as most people type them; nothing for one that is typed as it is
    author       u16         0, or the place in the list of names, from 1 on; domain likewise

Rows are tokenised in blocks and read where they lie, so memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.corpus.answers import is_answer
from model.files import replace_directory, sha256_file, write_json
from model.progress import Progress
from model.text.cleaning import as_typed, clean_source
from model.tokenizer import Tokenizer

FORMAT_VERSION = 2
CARD = "tokens.json"
BLOCK_ROWS = 4096
LABELS = ("author", "domain")
KINDS = ("", ".source", ".typed")

Record = dict[str, str]
Names = dict[str, list[str]]  # of each label


@dataclass(frozen=True)
class Column:
    """One text of every row: ids u16 or u32, of all rows; offsets i64 [rows + 1]."""

    ids: np.ndarray
    offsets: np.ndarray

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """How many ids the rows have, i64."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def of(self, row: int) -> list[int]:
        """The ids of a row."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]].tolist()


class Tokens:
    """The tokenised rows of a split.

    Attributes:
        own: the column of each field.
        source: the column of each language as it is read; a row that is the same has no ids there.
        typed: the column of each language as most people type what is read; likewise.
        labels: "author" and "domain" of each row as a place in ``names``, from 1 on, or 0.
        rows: their number.
    """

    def __init__(self, arrays: dict[str, np.ndarray], names: Names, fields: Sequence[str]) -> None:
        self.own, self.source, self.typed = (
            {field: Column(arrays[f"{field}{kind}.ids"], arrays[f"{field}{kind}.offsets"]) for field in of}
            for kind, of in zip(KINDS, (fields, *[sources(fields)] * 2), strict=True)
        )
        self.labels = {label: arrays[label] for label in LABELS}
        self.names = names
        self.rows = len(arrays[LABELS[0]])

    def name(self, label: str, number: int) -> str | None:
        """The author or domain with a number of ``labels``."""
        return self.names[label][number - 1] if number else None


def tokenised(records: Sequence[Record], tokenizer: Tokenizer, fields: Sequence[str]) -> Tokens:
    """The rows in memory."""
    names: Names = {label: [] for label in LABELS}
    arrays = _encoded(records, tokenizer, fields, names)
    for name in [name for name in arrays if name.endswith(".offsets")]:
        arrays[name] = np.concatenate([[0], arrays[name]])
    return Tokens(arrays, names, fields)


def stored(
    folder: Path, source: dict[str, Any], rows: int, records: Iterable[Record], tokenizer: Tokenizer, fields: list[str]
) -> Tokens:
    """The rows in ``folder``: those that lie there if they are whole and of this source, or else made of ``records``.

    Args:
        source: plain JSON that identifies the text; the tokenizer and the fields are added to it.
        rows: how many records there are, for the progress told.
    """
    made_of = source | {"tokenizer": tokenizer.content_hash(), "fields": fields, "format_version": FORMAT_VERSION}
    if (card := _whole(folder, made_of)) is None:
        card = replace_directory(folder, lambda partial: _write(partial, made_of, rows, records, tokenizer, fields))
    arrays = {name: _mapped(folder / name, entry) for name, entry in card["arrays"].items()}
    return Tokens(arrays, card["names"], fields)


def _encoded(
    records: Sequence[Record], tokenizer: Tokenizer, fields: Sequence[str], names: Names
) -> dict[str, np.ndarray]:
    """The arrays of some rows; offsets are where each row ends. New names are added to ``names``."""
    arrays: dict[str, np.ndarray] = {}
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    for field in fields:
        texts = [record[field] for record in records]
        forms = [texts]
        if field in sources(fields):
            read = list(map(clean_source, texts))
            forms += [_changed(read, texts), _changed(list(map(as_typed, read)), read)]
        for kind, those in zip(KINDS, forms, strict=False):
            encoded = tokenizer.encode_batch(those)
            arrays[f"{field}{kind}.ids"] = np.fromiter(itertools.chain.from_iterable(encoded), dtype)
            arrays[f"{field}{kind}.offsets"] = np.cumsum([len(ids) for ids in encoded], dtype=np.int64)
    for label in LABELS:
        known = {name: number for number, name in enumerate(names[label], 1)}
        found = [known.setdefault(name, len(known) + 1) if (name := record.get(label)) else 0 for record in records]
        arrays[label], names[label] = np.array(found, np.uint16), list(known)
    return arrays


def sources(fields: Iterable[str]) -> list[str]:
    """Which of the fields are read and translated: not running text, and not what a teacher wrote."""
    return [field for field in fields if field != "text" and not is_answer(field)]


def _changed(texts: list[str], before: list[str]) -> list[str]:
    """The texts that are not what they were, and nothing for the others."""
    return [text if text != old else "" for text, old in zip(texts, before, strict=True)]


def _write(
    folder: Path,
    made_of: dict[str, Any],
    rows: int,
    records: Iterable[Record],
    tokenizer: Tokenizer,
    fields: Sequence[str],
) -> dict[str, Any]:
    """Fill the folder and return its card."""
    names: Names = {label: [] for label in LABELS}
    dtypes: dict[str, str] = {}
    ends: dict[str, int] = {}
    progress = Progress("training", rows)
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for block in _blocks(records):
            for name, array in _encoded(block, tokenizer, fields, names).items():
                data = array
                if name not in files:
                    files[name], dtypes[name] = stack.enter_context((folder / name).open("wb")), array.dtype.name
                    data = np.concatenate([[0], array]) if name.endswith(".offsets") else array
                if name.endswith(".offsets"):
                    data = data + ends.get(name, 0)
                    ends[name] = int(data[-1])
                files[name].write(data.tobytes())
            progress.advance(len(block), f"{int(progress.done) + len(block):,} rows tokenised")
    arrays = {
        name: {
            "dtype": dtype,
            "length": (folder / name).stat().st_size // np.dtype(dtype).itemsize,
            "sha256": sha256_file(folder / name),
        }
        for name, dtype in dtypes.items()
    }
    card = {"made_of": made_of, "names": names, "arrays": arrays}
    write_json(folder / CARD, card)
    return card


def _blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while block := list(itertools.islice(rest, BLOCK_ROWS)):
        yield block


def _whole(folder: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """The card of a folder that is made of this and has every array as it was written, or None."""
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        same = card["made_of"] == made_of
        whole = same and all(sha256_file(folder / name) == entry["sha256"] for name, entry in card["arrays"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return card if whole else None


def _mapped(path: Path, entry: dict[str, Any]) -> np.ndarray:
    if not entry["length"]:
        return np.empty(0, entry["dtype"])  # no file without a byte can be mapped
    return np.asarray(np.memmap(path, entry["dtype"], "r"))
