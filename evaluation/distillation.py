"""A corpus as a teacher would have written it: the same rows, each with the teacher's translations to be learned.

Sequence-level knowledge distillation (Kim and Rush 2016, https://arxiv.org/abs/1606.07947): a network learns what a
teacher writes in place of what people wrote: of the many right translations one, and one that is easier to learn. Each
row gets two answers (model/corpus/answers.py); the sources stay as they were, in number, order and text. Only the train
split is read, so that nothing that is held out passes through the teacher.

    python -m evaluation.distillation runs/live/bundle corpus --out taught --beams 4

Shards are written whole: where a step was killed, it goes on after the last one that was.
"""

import itertools
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from evaluation.prompts import Translation
from evaluation.synthesis import Asked, synthesise
from evaluation.teacher import TeacherError, check, opened
from model.bundle import Bundle
from model.config import DistillationConfig
from model.corpus import read_card, read_split
from model.corpus.answers import answer
from model.corpus.storage import CARD, SUFFIX, check_place, write_records
from model.files import fsync_path, sha256_file, write_json
from model.options import OK, Parser, read_settings, run
from model.progress import Progress
from model.row_counts import RowCount, row_count, sentence
from model.training.draws import Draws

BLOCK_ROWS = 1000  # handed to a process at once: enough to keep an engine's slots full
SHARD_ROWS = 20 * BLOCK_ROWS  # that a killed step translates again at most
JOURNAL = "distillation.json"  # what is done, while there is more to be done
KEPT = "its own translation stays (distillation.keep_original)"
ENDLESS = "the teacher's translation has no end, or is empty"
LOUD = 0.25  # a warning where more than this share of the teacher's translations is of no use

Json = dict[str, Any]
Block = tuple[list[Json], np.ndarray]  # rows, and which of their sides are translated: bool [languages, rows]


def teach(bundle: Bundle, corpus: str | Path, out: str | Path, config: DistillationConfig, name: str = "") -> Json:
    """Write the train split of a corpus with the answers of a bundle to ``out``; its card.

    A call that was killed goes on when it is made again, and one that has ended is not made twice.

    Args:
        bundle: the teacher.
        corpus: folder written by :func:`model.corpus.prepare_corpus`.
        out: folder of the same form, with the train split alone.
        name: what the teacher is called in the card.

    Raises:
        TeacherError: for a bundle that cannot teach this corpus, and when nothing that it writes is of use.
        CorpusError: for a corpus that cannot be read, and when ``out`` holds something else.
    """
    card, out = read_card(corpus), Path(out)
    if card["kind"] != "parallel":
        raise TeacherError(f"{corpus}: is running text, which a teacher has nothing to translate of; give pairs")
    check(bundle, card["languages"], config.beams, name or str(bundle.path))
    asked: Json = {"beams": config.beams, "keep_original": config.keep_original}
    asked |= {"teacher": bundle.identity["sha256"], "corpus": [shard["sha256"] for shard in card["shards"]]}
    if (out / CARD).exists() and (made := read_card(out)).get("made_of") == asked:
        return made
    lesson = _Lesson(bundle, Path(corpus), card, out, config, asked)
    lesson.run(_begun(out, asked))
    counts = lesson.row_counts()
    print(sentence(counts), flush=True)
    told = {"name": name or bundle.path.name, "parameters": bundle.provenance.get("training", {}).get("parameters")}
    card["distillation"] = {
        "teacher": {**told, "precision": bundle.precision, "sha256": bundle.identity["sha256"]},
        "beams": config.beams,
        "keep_original": config.keep_original,
        "seconds": round(sum(shard["seconds"] for shard in lesson.shards), 1),
        "row_counts": counts,
    }
    card["made_of"] = asked
    card["shards"] = [{key: shard[key] for key in ("file", "rows", "sha256")} for shard in lesson.shards]
    write_json(out / CARD, card | {"holds": ["train"]})
    (out / JOURNAL).unlink()
    return card


def _begun(out: Path, asked: Json) -> list[Json]:
    """The shards that lie in ``out`` whole, of those that a call for the same has written; all else is removed.

    Raises:
        CorpusError: where something else lies there.
    """
    if not (out / JOURNAL).is_file():
        check_place(out)
    journal = json.loads((out / JOURNAL).read_text("utf-8")) if (out / JOURNAL).is_file() else {}
    found: list[Json] = journal["shards"] if journal.get("asked") == asked else []
    whole = [*itertools.takewhile(lambda shard: _is_whole(out / shard["file"], shard["sha256"]), found)]
    names = {shard["file"] for shard in whole}
    for path in out.glob("*") if out.is_dir() else ():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / JOURNAL, {"asked": asked, "shards": whole})
    return whole


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


class _Lesson:
    """A corpus in the making: its rows, with the answers of a teacher, shard by shard.

    Attributes:
        shards: what is written, with what became of the rows and how long it took.
    """

    def __init__(
        self, bundle: Bundle, corpus: Path, card: Json, out: Path, config: DistillationConfig, asked: Json
    ) -> None:
        self._bundle, self._corpus, self._out, self._config, self._asked = bundle, corpus, out, config, asked
        self._languages, self._rows = card["languages"], card["counts"]["train"]
        self._draws = Draws(0)
        self.shards: list[Json] = []

    def run(self, whole: list[Json]) -> None:
        """Translate all rows but those of the shards that are whole, and write them."""
        self.shards = whole
        done = sum(shard["rows"] for shard in whole)
        progress = Progress("distil", self._rows)
        progress.skip(done)
        if done:
            print(f"distil: going on after {done:,} of {self._rows:,} rows, translated before", flush=True)
        rest = itertools.islice(read_split(self._corpus, "train"), done, None)
        blocks = synthesise(self._bundle, self._blocks(rest, done), self._config.beams)
        counts = Counter[str]()
        records = self._taught(blocks, counts, progress, done)
        began = time.perf_counter()
        for first in records:
            path, draft = self._out / f"train-{len(self.shards):05d}{SUFFIX}", self._out / ".shard.draft"
            rows = write_records(draft, itertools.chain([first], itertools.islice(records, SHARD_ROWS - 1)))
            fsync_path(draft)
            os.replace(draft, path)
            now = time.perf_counter()
            entry = {"file": path.name, "rows": rows, "sha256": sha256_file(path), "seconds": now - began}
            self.shards.append({**entry, "counts": dict(counts)})
            write_json(self._out / JOURNAL, {"asked": self._asked, "shards": self.shards})
            counts.clear()
            began = now
            if len(self.shards) == 1:  # rows are in random order: the first shard tells of all, before the long wait
                self._judge()

    def row_counts(self) -> list[RowCount]:
        """What became of the rows that are written, by direction."""
        counts = sum((Counter(shard["counts"]) for shard in self.shards), Counter[str]())
        rows, found = sum(shard["rows"] for shard in self.shards), []
        for source, target in itertools.permutations(self._languages):
            left_out = {reason: counts[f"{reason} {target}"] for reason in (KEPT, ENDLESS)}
            used = rows - sum(left_out.values())
            found.append(row_count("distillation", "train", rows, used, left_out, f"{source}-{target}"))
        return found

    def _judge(self) -> None:
        """Warn of a teacher much of whose writing is of no use.

        Raises:
            TeacherError: where nothing of it is.
        """
        for entry in self.row_counts():
            useless, used = entry["left_out"].get(ENDLESS, 0), entry["used"]
            if useless and not used:
                raise TeacherError(
                    f"{self._bundle.path}: no translation {entry['direction']} of {useless:,} is of use, for none has "
                    "an end; give a better teacher, or train this one for longer (distillation.teacher_steps)"
                )
            if useless > LOUD * (useless + used):
                share = f"{useless:,} of the first {useless + used:,} translations {entry['direction']}"
                print(f"WARNING: {share} are of no use: they have no end, or are empty", flush=True)

    def _blocks(self, records: Iterator[Json], number: int) -> Iterator[tuple[Block, list[Asked]]]:
        """The rows from a ``number`` on, and what of them is to be translated."""
        one, other = self._languages
        while block := list(itertools.islice(records, BLOCK_ROWS)):
            rows = np.arange(number, number + len(block))
            number += len(block)
            wanted = np.stack(
                [self._draws.shares(f"keep {target}", 0, rows) >= self._config.keep_original for target in (one, other)]
            )
            asked = [
                Asked(record[source], target, record.get("author"))
                for i, (source, target) in enumerate([(other, one), (one, other)])
                for record, translates in zip(block, wanted[i], strict=True)
                if translates
            ]
            yield (block, wanted), asked

    def _taught(
        self,
        blocks: Iterator[tuple[Block, list[Translation]]],
        counts: Counter[str],
        progress: Progress,
        done: int,
    ) -> Iterator[bytes]:
        """The rows with their answers: the teacher's, or their own text where that stays or the teacher's is no use."""
        for (block, wanted), translations in blocks:
            found = iter(translations)
            for target, translates in zip(self._languages, wanted, strict=True):
                for record, is_asked in zip(block, translates, strict=True):
                    record[answer(target)] = record[target]
                    if not is_asked:
                        counts[f"{KEPT} {target}"] += 1
                    elif (translation := next(found)).ended and translation.text:
                        record[answer(target)] = translation.text
                    else:
                        counts[f"{ENDLESS} {target}"] += 1
            done += len(block)
            progress.advance(len(block), f"{done:,} of {self._rows:,} rows translated")
            yield from map(orjson.dumps, block)


def parser() -> Parser:
    """The command line."""
    made = Parser("evaluation.distillation", "Give the rows of a corpus a teacher's translations to learn.")
    made.add_argument("bundle", help="the teacher's: a folder, or an address; also those of its run")
    made.add_argument("corpus", type=Path, help="folder made by python -m model.corpus")
    made.add_argument("--out", type=Path, required=True, help="folder of the corpus with answers")
    made.add_settings(DistillationConfig, leave_out=("teacher", "teacher_steps", "teacher_network"))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Translate, or go on with it."""
    options = parser().parse_args(argv)
    with opened(options.bundle) as (bundle, name):
        card = teach(bundle, options.corpus, options.out, read_settings(DistillationConfig, options), name)
    print(f"{card['counts']['train']:,} rows with answers in {options.out}, {card['distillation']['seconds']:.0f} s")
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
