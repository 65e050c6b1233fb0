"""What shards are worth: how long the longest of them and the merge take, each step in a process of its own.

    python -m benchmarks.shards --rows 300000 --of 1 2 5 10 --work /tmp/work

Steps run one after another here, in one process each (``--processes 1``), and are told in CPU seconds: so they do not
get into each other's way, and a step takes as long on a processor of its own. The text is that of benchmarks.corpus,
in one compressed file, of which the last shard has to read all; with ``--files`` it is in several, as large text is.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.corpus import made_up, watch, write_pairs
from benchmarks.machine import RESULTS, BenchmarkError, heading, keep, markdown
from evaluation.figures import processor
from model.config import CorpusConfig, from_dict, to_dict
from model.options import OK, Parser, read_settings, run

# What a step of the pipeline does: a shard of the text, or the merge of shards.
STEP = """
import json, sys
from model.config import CorpusConfig, from_dict
config, number, sources, out = (json.loads(word) for word in sys.argv[1:])
settings = from_dict(CorpusConfig, config)
if number is None:
    from model.corpus.merge import merge_shards
    merge_shards(sources, out, settings)
else:
    from model.corpus.shard import write_shard
    write_shard(sources, [], out, settings, number)
"""


def step(config: CorpusConfig, number: int | None, sources: Sequence[Path], out: Path) -> dict[str, float]:
    """What a step took: the shard of a number, or the merge."""
    given = (to_dict(config), number, [*map(str, sources)], str(out))
    return watch([sys.executable, "-c", STEP, *map(json.dumps, given)])


def measure(sources: Sequence[Path], work: Path, config: CorpusConfig) -> dict[str, Any]:
    """Prepare a corpus shard by shard, and merge them."""
    places = [work / f"shard-{number}" for number in range(config.shards)]
    shards = [step(config, number, sources, place) for number, place in enumerate(places)]
    merge = step(config, None, places, work / "corpus")
    card = json.loads((work / "corpus" / "corpus.json").read_text("utf-8"))
    handed = sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())
    longest, merged = max(shard["cpu_seconds"] for shard in shards), merge["cpu_seconds"]
    for place in (*places, work / "corpus"):
        shutil.rmtree(place)
    return {
        "shards": config.shards,
        "rows": card["counts"]["read"],
        "longest_shard": round(longest, 1),
        "merge": round(merged, 1),
        "side_by_side": round(longest + merged, 1),
        "all_steps": round(sum(shard["cpu_seconds"] for shard in shards) + merged, 1),
        "peak_mb_of_a_shard": max(shard["peak_mb_of_one_process"] for shard in shards),
        "peak_mb_of_the_merge": merge["peak_mb_of_one_process"],
        "handed_over_mb": round(handed / 1e6, 1),
        "corpus": [file["sha256"] for file in card["shards"]],
    }


def shards_table(result: dict[str, Any]) -> str:
    """Markdown: a line for each number of shards."""
    names = ("longest_shard", "merge", "side_by_side", "all_steps")
    rows = [
        [str(record["shards"]), *(f"{record[name]:,.0f}" for name in names)]
        + [f"{record[f'peak_mb_of_{step}']:,}" for step in ("a_shard", "the_merge")]
        + [f"{record['handed_over_mb']:,.0f}"]
        for record in result["records"]
    ]
    head = ["shards", "longest shard, s", "merge, s", "one after the other, s", "all steps, s"]
    head += ["shard, MB", "merge, MB", "handed over, MB"]
    count = result["records"][0]["rows"]
    return (
        f"{markdown(head, rows)}\n\nCPU seconds of one process for {count:,} pairs in {result['files']} "
        f"file{'s' * (result['files'] > 1)}, and the peak of its memory; each time the same corpus, by its hashes. "
        f"{processor(result['machine'])}, {result['date'][:10]}."
    )


def parser() -> Parser:
    """How much text, in how many shards, and every setting of a corpus."""
    made = Parser("benchmarks.shards", __doc__)
    made.add_argument("--rows", type=int, default=300_000, help="pairs of the text (%(default)s)")
    made.add_argument("--files", type=int, default=1, help="files that it is in (%(default)s)")
    made.add_argument("--of", type=int, nargs="+", default=[1, 2, 5, 10], metavar="SHARDS", help="default: 1 2 5 10")
    made.add_argument("--work", type=Path, required=True, help="folder for text and shards, which are removed")
    made.add_argument("--out", type=Path, default=RESULTS / "shards.json", metavar="FILE", help="default: %(default)s")
    made.add_settings(CorpusConfig, leave_out=["sources", "shards", "max_rows"])
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the text, measure each number of shards, and keep what was found.

    Raises:
        BenchmarkError: where two numbers of shards have not come to the same corpus.
    """
    options = parser().parse_args(argv)
    settings = to_dict(read_settings(CorpusConfig, options)) | {"processes": 1}
    pairs, sources = made_up(), [options.work / f"pairs-{number}.tsv.zst" for number in range(options.files)]
    for source in sources:
        plain = source.with_suffix("")
        write_pairs(plain, options.rows // options.files, pairs)
        with plain.open("rb") as text, source.open("wb") as packed:
            zstandard.ZstdCompressor(level=3).copy_stream(text, packed)
        plain.unlink()
    records = []
    for shards in options.of:
        config = from_dict(CorpusConfig, {**settings, "shards": shards})
        records.append(measure(sources, options.work, config))
    for source in sources:
        source.unlink()
    hashes = [record.pop("corpus") for record in records]
    if any(found != hashes[0] for found in hashes):
        raise BenchmarkError(f"shards have made another corpus than one did: {hashes}")
    result = {**heading("shards"), "files": options.files, "records": records}
    keep(result, options.out, shards_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
