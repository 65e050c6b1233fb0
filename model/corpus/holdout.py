"""The valid and held-out splits: the first records of the shuffle, or what stood at the ends of files.

No valid row has a side that is held out, so that early stopping does not look at what is to be scored.
"""

from collections.abc import Callable, Sequence

import orjson

from model.config import CorpusConfig
from model.corpus.likeness import normal_form
from model.corpus.screening import Screened, sides
from model.corpus.storage import Bucket, distinct, read_bucket

SMALL_SHARE = 0.05  # of a small corpus, for each of the two splits

Splits = dict[str, list[bytes]]


def first_ones(
    buckets: list[Bucket], config: CorpusConfig, columns: Sequence[str], screened: Screened, tell: Callable[[str], None]
) -> tuple[Splits, list[bytes]]:
    """The records of both splits, and of those that follow them the ones that are to be screened before the buckets.

    Args:
        buckets: of the shuffle; those that the records are in are taken off the list.
        screened: counts the repeats in these buckets.
        tell: is told how many rows are held out of a small corpus.
    """
    wanted = {"heldout": config.heldout_rows, "valid": config.valid_rows}
    head: list[bytes] = []
    while buckets and len(head) < 2 * sum(wanted.values()):
        records, repeats = distinct(read_bucket(buckets.pop(0)))
        head += records
        for kept, record in repeats:
            screened.repeat(columns, kept, record)
    if (rows := len(head)) < 2 * sum(wanted.values()):
        wanted = {name: min(count, max(1, int(SMALL_SHARE * rows))) for name, count in wanted.items()}
        tell(f"a small corpus: of {rows:,} rows, heldout gets {wanted['heldout']:,} and valid {wanted['valid']:,}")
    heldout = head[: wanted["heldout"]]
    alone = _apart(heldout, config, columns)
    valid, rest = list[bytes](), list[bytes]()
    for line in head[len(heldout) :]:
        (valid if len(valid) < wanted["valid"] and alone(line) else rest).append(line)
    return {"valid": valid, "heldout": heldout}, rest


class Ends:
    """What stood at the ends of files: of each split a random sample, the records with the smallest hashes."""

    def __init__(self, config: CorpusConfig, columns: Sequence[str]) -> None:
        self._config, self._columns = config, columns
        self._wanted = {"heldout": config.heldout_rows, "valid": config.valid_rows}
        self._records: dict[str, dict[str, bytes]] = {name: {} for name in self._wanted}
        self._rest = self._duplicates = 0

    def add(self, split: str, key: str, record: bytes) -> None:
        """Add a record to a split; memory holds twice as many of them as are wanted."""
        records = self._records[split]
        self._duplicates += key in records
        records[key] = record
        if len(records) > 2 * self._wanted[split] + 1:
            self._records[split] = self._sample(split, records)

    def splits(self, screened: Screened) -> Splits:
        """The records of both splits; ``screened`` counts the others."""
        heldout = self._sample("heldout", self._records["heldout"])
        alone = _apart([*heldout.values()], self._config, self._columns)
        apart = {key: line for key, line in self._records["valid"].items() if alone(line)}
        screened.left_out["heldout_side"] += len(self._records["valid"]) - len(apart)
        valid = self._sample("valid", apart)
        screened.left_out["held_out_rest"] += self._rest
        screened.duplicates += self._duplicates
        return {"valid": [*valid.values()], "heldout": [*heldout.values()]}

    def _sample(self, split: str, records: dict[str, bytes]) -> dict[str, bytes]:
        kept = {key: records[key] for key in sorted(records)[: self._wanted[split]]}
        self._rest += len(records) - len(kept)
        return kept


def _apart(heldout: Sequence[bytes], config: CorpusConfig, columns: Sequence[str]) -> Callable[[bytes], bool]:
    """Whether a record has no side in common with those that are held out."""
    formed: Callable[[str], str] = str if config.leaks == "exact" else normal_form
    held = {formed(side) for line in heldout for side in sides(orjson.loads(line), columns)}
    return lambda line: held.isdisjoint(map(formed, sides(orjson.loads(line), columns)))
