"""What a shard hands over to the merge: its rows, and what it tells of itself.

    shard.json  rows.zst  ends.zst  test/<name>.jsonl.zst

``rows.zst`` holds the rows that are fit in the buckets of :class:`model.corpus.storage.Shuffle`, ``ends.zst`` those at
the ends of files in their order, and ``test`` the test sets, which every shard has.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from model.config import CorpusConfig, to_dict
from model.corpus.files import CorpusError
from model.settings import differing

FORMAT_VERSION = 1
CARD, ROWS, ENDS = "shard.json", "rows.zst", "ends.zst"


class Shard(NamedTuple):
    """A shard on disk: its directory, and its card."""

    place: Path
    card: dict[str, Any]


def settings(config: CorpusConfig, sources: Sequence[str]) -> dict[str, Any]:
    """What a corpus is prepared with, but for the number of its shards, which decides nothing of it."""
    return to_dict(config.model_copy(update={"shards": 1})) | {"sources": [*sources]}


def read_shards(places: Sequence[Path], config: CorpusConfig) -> list[Shard]:
    """The shards of a corpus in their order, in whichever order they are given.

    Raises:
        CorpusError: when they are not all shards of one corpus, prepared with these settings.
    """
    shards = sorted((_read(place) for place in places), key=lambda shard: shard.card["number"])
    numbers = [shard.card["number"] for shard in shards]
    if numbers != [*range(config.shards)] or any(shard.card["of"] != config.shards for shard in shards):
        raise CorpusError(
            f"the shards {', '.join(map(str, numbers)) or 'none'} are given, and 0 to {config.shards - 1} make up the "
            f"corpus (corpus.shards={config.shards}): give each of them once, all prepared with this setting"
        )
    first = shards[0].card
    asked = settings(config, first["config"]["sources"])
    for place, card in shards:
        if wrong := ", ".join(f"corpus.{name}" for name in differing(asked, card["config"])):
            raise CorpusError(f"{place}: prepared with another {wrong}; prepare all shards with the same settings")
        if card["text"] != first["text"]:
            raise CorpusError(f"{place}: its files have other names or sizes than those of shard 0; prepare all again")
    return shards


def _read(place: Path) -> Shard:
    try:
        card = json.loads((place / CARD).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        raise CorpusError(f"{place}: not a shard of a corpus, or damaged; prepare it again") from None
    if not isinstance(card, dict) or card.get("format_version") != FORMAT_VERSION:
        raise CorpusError(f"{place}: not a shard of format version {FORMAT_VERSION}; prepare it again")
    if not (place / ROWS).is_file() or (place / ROWS).stat().st_size != sum(card["buckets"].values()):
        raise CorpusError(f"{place / ROWS}: not all of it is there; prepare the shard again")
    return Shard(place, card)
