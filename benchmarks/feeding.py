"""What feeding a training costs: tokenising, beginning at any step, padding, shapes, tokens per second, and memory.

    python -m benchmarks.feeding corpus tokenizer --work /tmp/work --start 2000 --batches 300

The second time, with the same folder for its work, the text is tokenised already, as where a run goes on.
"""

import itertools
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.config import NetworkConfig, TrainingConfig
from model.options import OK, Parser, read_settings, run
from model.tokenizer import load_tokenizer
from model.training.batches import Examples


def measure(examples: Examples, start: int, batches: int) -> dict[str, Any]:
    """Make ``batches`` batches from number ``start`` on, and say what it took."""
    began = time.perf_counter(), time.process_time()
    stream = examples.train_batches(start)
    next(stream)
    ready = time.perf_counter(), time.process_time()
    tokens = padded = widest = 0
    shapes = set()
    for batch in itertools.islice(stream, batches):
        given = [side for side in (batch.source, batch.inputs) if side is not None]
        sides = [side.numel() for side in given]
        tokens, padded, widest = tokens + batch.tokens, padded + sum(sides), max(widest, *sides)
        shapes.add(tuple(side.shape for side in given))
    spent = time.process_time() - ready[1]
    return {
        "rows": examples.card["counts"]["train"],
        "start": start,
        "seconds_to_first_batch": round(ready[0] - began[0], 3),
        "cpu_seconds_to_first_batch": round(ready[1] - began[1], 3),
        "batches": batches,
        "tokens_per_batch": round(tokens / max(1, batches), 1),
        "padding_share": round(1 - tokens / max(1, padded), 4),
        "largest_side": widest,
        "shapes": len(shapes),
        "tokens_per_cpu_second": round(tokens / max(1e-9, spent)),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "own_mb": round(_own_bytes() / 1e6, 1),
    }


def _own_bytes() -> int:
    """Memory that is the process's own, now: without the pages of mapped files, which the system takes back at will."""
    resident, shared = Path("/proc/self/statm").read_text("utf-8").split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()


def parser() -> Parser:
    """What to feed, from where on."""
    made = Parser("benchmarks.feeding", __doc__)
    made.add_argument("corpus", help="folder made by python -m model.corpus")
    made.add_argument("tokenizer", help="folder made by python -m model.tokenizer")
    made.add_argument("--work", type=Path, help="folder that keeps the tokenised text (default: none does)")
    made.add_argument("--start", type=int, default=0, help="number of the first batch (default: %(default)s)")
    made.add_argument("--batches", type=int, default=300, help="batches that are made (default: %(default)s)")
    made.add_settings(NetworkConfig, "network")
    made.add_settings(TrainingConfig, "training")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found as JSON."""
    options = parser().parse_args(argv)
    network, training = read_settings(NetworkConfig, options), read_settings(TrainingConfig, options)
    tokenizer = load_tokenizer(options.tokenizer)
    examples = Examples(options.corpus, tokenizer, network, training, work=options.work)
    print(json.dumps(measure(examples, options.start, options.batches), indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
