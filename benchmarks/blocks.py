"""What the blocks of a network cost in serving: a decode step, a source, and a slot's memory of its text.

The network that profile ``small`` trains beside others that differ from it in one setting, all with random weights, as
time does not depend on them. They are driven as the engine drives them: sources are encoded into slots, then all slots
take one token a step, whose products run on one thread. The figure is CPU time, which hardly feels a busy machine, the
least of all rounds; the rounds of all networks take turns.

    python -m benchmarks.blocks
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, heading, keep, markdown
from benchmarks.serving.models import VARIANTS, parameters, write_bundles
from benchmarks.serving.shapes import SCALES, Scale, batch_workload
from evaluation.figures import processor
from model.bundle import Bundle
from model.config import NetworkConfig
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, setting
from serving.engine import EngineConfig
from serving.engine.limits import Limits
from serving.engine.runtime import Runtime

PRECISIONS = {"fp32": "ours-fp32", "int8": "ours-int8-static"}
PLAIN = "attention"  # what the others are held against


class BlockSettings(Settings):
    """How much is measured."""

    rounds: Count = setting(7, "Rounds, of which the least CPU time counts.")


def networks(plain: NetworkConfig) -> dict[str, NetworkConfig]:
    """The networks by their names in the table; the last is what model.pruning makes of the first, all blocks alike."""
    fewer = dict.fromkeys(plain.attention_blocks, plain.heads - plain.kv_heads)
    return {
        PLAIN: plain,
        "ssru": plain.model_copy(update={"decoder_mixer": "ssru"}),
        f"{plain.heads - plain.kv_heads} of {plain.heads} heads": plain.model_copy(update={"head_counts": fewer}),
    }


def encode(runtime: Runtime, prompts: list[list[int]]) -> float:
    """CPU seconds of one source after another."""
    started = time.process_time()
    for slot, prompt in enumerate(prompts):
        runtime.encode(slot, np.array(prompt))
    return time.process_time() - started


def decode(runtime: Runtime, prompts: list[list[int]], steps: int) -> float:
    """CPU seconds of so many steps that give each of the prompts a token."""
    encode(runtime, prompts)
    started = time.process_time()
    for _ in range(steps):
        runtime.decode(len(prompts))
    return time.process_time() - started


def measure(folder: Path, scale: Scale, rounds: int) -> list[dict[str, Any]]:
    """One record for each precision and network, with microseconds by what is run: "rows x tokens" of a decode step."""
    records, runtimes = list[dict[str, Any]](), list[Runtime]()
    plain, config = NetworkConfig(**scale.networks["seq2seq"]), EngineConfig(threads=1, provider="cpu")
    for precision, variant in PRECISIONS.items():
        for name, network in networks(plain).items():
            write_bundles(folder / name, network, {variant: VARIANTS[variant]})
            bundle = Bundle.load(folder / name / variant)
            runtimes.append(Runtime(bundle, config, Limits.of(bundle, config.slots)))
            record: dict[str, Any] = {"precision": precision, "network": name, "parameters": parameters(network)}
            record["graph_bytes"] = {role: bundle.graph(role).stat().st_size for role in bundle.graphs}
            record["slot_bytes"] = runtimes[-1].text_bytes // config.slots
            records.append({**record, "source_us": 0.0, "step_us": {}})
    for batch in scale.batches:
        prompts = batch_workload(scale, "seq2seq", batch).prompts
        for steps in (scale.output["seq2seq"], plain.max_positions):
            seen = [[decode(runtime, prompts, steps) for runtime in runtimes] for _ in range(rounds)]
            for record, seconds in zip(records, zip(*seen, strict=True), strict=True):
                record["step_us"][f"{batch} x {steps}"] = round(min(seconds) / steps * 1e6, 2)
    seen = [[encode(runtime, prompts) for runtime in runtimes] for _ in range(rounds)]
    for record, seconds in zip(records, zip(*seen, strict=True), strict=True):
        record["source_us"] = round(min(seconds) / len(prompts) * 1e6, 1)
    return records


def blocks_table(result: dict[str, Any]) -> str:
    """Markdown: one line per record; in brackets what share of the plain network's time it takes."""
    rows = []
    for record in result["records"]:
        plain = next(r for r in result["records"] if (r["precision"], r["network"]) == (record["precision"], PLAIN))
        pairs = [(record["source_us"], plain["source_us"])]
        pairs += [(us, plain["step_us"][case]) for case, us in record["step_us"].items()]
        sizes = f"{sum(record['graph_bytes'].values()) / 1e6:.2f}", f"{record['slot_bytes'] / 1024:g}"
        times = [f"{us:,.0f}" + (f" ({us / of:.0%})" if record is not plain else "") for us, of in pairs]
        rows.append([f"{record['precision']}, {record['network']}", f"{record['parameters']:,}", *sizes, *times])
    cases = [f"{case.replace(' x ', ' rows, ')} tokens" for case in result["records"][0]["step_us"]]
    head = ["", "parameters", "graphs, MB", "slot, KiB", f"source of {result['source_tokens']}", *cases]
    return (
        f"{markdown(head, rows)}\n\nCPU microseconds on one thread, least of {result['rounds']} rounds: of one source, "
        f"and of one decode step, the mean over a text of so many tokens. {processor(result['machine'])}, "
        f"load {result['machine']['load_average']:g} before the run, {result['date'][:10]}."
    )


def parser() -> Parser:
    """How much, and where to."""
    made = Parser("benchmarks.blocks", __doc__)
    made.add_argument("--out", type=Path, default=RESULTS / "blocks.json", help="where the result is kept")
    made.add_argument("--scale", choices=sorted(SCALES), default="full", help="tiny is for the tests")
    made.add_settings(BlockSettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and keep."""
    options = parser().parse_args(argv)
    rounds, scale = read_settings(BlockSettings, options).rounds, SCALES[options.scale]
    with tempfile.TemporaryDirectory(prefix="blocks-") as folder:
        records = measure(Path(folder), scale, rounds)
    result = {**heading("blocks"), "rounds": rounds, "source_tokens": scale.prompt["seq2seq"], "records": records}
    keep(result, options.out, blocks_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
