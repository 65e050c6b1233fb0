"""How fast a training step is, beside what one would write with PyTorch's own parts.

The encoder-decoder of profile `small` stands beside ``torch.nn.Transformer``, the decoder of profile `gpt` beside one
in nanoGPT's manner: both with AdamW, fused, and PyTorch's cross-entropy over all logits, of the same depth, width and,
to a tenth, parameters. Both take the same batches in turn, in one process and on one thread, and the least CPU time of
a batch counts. What share of it goes into matrix products, which both need alike, is told by PyTorch's profiler. Where
the processor has bfloat16, another process does the same in float32 with that hidden from PyTorch.

Then `small` trains on all processors, alone and beside as many busy loops in turn: half of its speed is a fair share.

    python -m benchmarks.training        # some minutes
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.machine import RESULTS, ROOT, BenchmarkError, heading, keep, markdown
from evaluation.figures import processor
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, setting

if TYPE_CHECKING:
    from model.training.batches import Batch

Json = dict[str, Any]

# Profile -> tokens of its vocabulary, and the widths of the batches: those of sentences, and of whole windows of text.
PROFILES = {"small": (8000, (12, 20, 32, 48, 96)), "gpt": (256, (256,))}
OTHERS = {"small": "torch.nn.Transformer", "gpt": "nanoGPT's manner"}
# What PyTorch is told of the processor: oneDNN obeys it, and so does our choice of precision.
# What multiplies matrices, attention as one call included.
PRODUCTS = re.compile(r"aten::(mm|addmm|bmm|baddbmm|_scaled_dot_product_\w+)")
BUSY = "small"  # the profile that is trained beside busy loops
WAYS = {"as it is": {}, "without bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}}


class TrainingSettings(Settings):
    """How much is measured."""

    rounds: Count = setting(3, "Rounds, of which the least CPU time of each batch counts.")
    batches: Count = setting(5, "Batches in a round.")
    batch_tokens: int = setting(0, "Padded tokens a side in a batch; 0 takes the profile's.", ge=0)


def batches(profile: str, count: int, tokens: int) -> "list[Batch]":
    """Random tokens in rows of about one length, as bucketing leaves them; the same ones at every call."""
    import torch

    from model.training.batches import Batch

    vocabulary, widths = PROFILES[profile]
    made, generator = [], torch.Generator().manual_seed(0)
    for number in range(count):
        width = widths[number % len(widths)]
        ids = torch.randint(4, vocabulary, (3, max(1, tokens // width), width), generator=generator)
        lengths = torch.randint(max(1, width * 7 // 8), width + 1, (2, ids.shape[1], 1), generator=generator)
        if len(widths) == 1:
            lengths.fill_(width)
        places = torch.arange(width)
        source = ids[0].masked_fill(places >= lengths[0], 0) if len(widths) > 1 else None
        inputs, labels = (part.masked_fill(places >= lengths[1], 0) for part in ids[1:])
        made.append(Batch.of(None if source is None else source.numpy(), inputs.numpy(), labels.numpy()))
    return made


def ours(profile: str, folder: Path) -> "tuple[Callable[[Batch], Any], int, str]":
    """One step of the product's own trainer, the number of its parameters, and its precision."""
    from model.network import count_parameters
    from model.training.loop import Trainer
    from pipelines.request import load_profile

    read = load_profile(profile)
    examples = SimpleNamespace(
        network=read.network, config=read.training, tokenizer=SimpleNamespace(vocab_size=PROFILES[profile][0])
    )
    trainer = Trainer(cast(Any, examples), folder)
    return lambda batch: trainer.update([batch], 1.0), count_parameters(trainer.network), trainer.precision


def theirs(profile: str, precision: str) -> "tuple[Callable[[Batch], Any], int]":
    """One step of the network made of PyTorch's parts, and the number of its parameters."""
    import torch
    import torch.nn.functional as F

    from benchmarks.baselines import Decoder, EncoderDecoder
    from model.network import count_parameters
    from pipelines.request import load_profile

    network = (EncoderDecoder if profile == "small" else Decoder)(load_profile(profile).network, PROFILES[profile][0])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    dtype = getattr(torch, precision)

    def step(batch: "Batch") -> float:
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            logits = network(batch.source, batch.inputs)
            loss = F.cross_entropy(logits.flatten(0, 1)[batch.places], batch.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, count_parameters(network)


def in_products(step: "Callable[[Batch], Any]", data: "Sequence[Batch]") -> float:
    """The share of the CPU time of steps that goes into matrix products."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for batch in data:
            step(batch)
    times = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    return sum(time for key, time in times.items() if PRODUCTS.fullmatch(key)) / sum(times.values())


def work(profile: str, given: TrainingSettings) -> Json:
    """Tokens per CPU second of both, on the same batches in turn, in this process."""
    import torch

    from pipelines.request import load_profile

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        mine, parameters, precision = ours(profile, Path(folder))
        other, other_parameters = theirs(profile, precision)
        torch.set_num_threads(1)  # whatever the profile wants
        tokens = given.batch_tokens or load_profile(profile).training.batch_tokens
        data = batches(profile, given.batches, tokens)
        least = [[float("inf")] * len(data) for _ in range(2)]
        for turn in range(given.rounds + 1):  # the first one warms up
            for number, batch in enumerate(data):
                for who, step in enumerate((mine, other)):
                    began = time.process_time()
                    step(batch)
                    if turn:
                        least[who][number] = min(least[who][number], time.process_time() - began)
        shares = [round(in_products(step, data), 3) for step in (mine, other)]
    trained = sum(batch.tokens for batch in data)
    ours_speed, other_speed = (trained / sum(seconds) for seconds in least)
    return {
        "profile": profile,
        "precision": precision,
        "parameters": [parameters, other_parameters],
        "tokens_per_cpu_second": [round(ours_speed), round(other_speed)],
        "ratio": round(ours_speed / other_speed, 3),
        "in_products": shares,
    }


@contextlib.contextmanager
def loops(count: int) -> Iterator[None]:
    """So many processes that compute without end, until this is left."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def beside_others(given: TrainingSettings) -> Json:
    """Tokens per second of wall-clock time on all processors, alone and beside as many busy loops, in this process."""
    import torch

    from model.processors import available_cpus
    from pipelines.request import load_profile

    processors = available_cpus()
    torch.set_num_threads(processors)
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        step, _, precision = ours(BUSY, Path(folder))
        data = batches(BUSY, given.batches, given.batch_tokens or load_profile(BUSY).training.batch_tokens)
        speeds: dict[int, list[float]] = {0: [], processors: []}
        for turn in range(given.rounds + 1):  # the first one warms up
            for count, found in speeds.items():
                with loops(count):
                    began = time.perf_counter()
                    for batch in data:
                        step(batch)
                    if turn:
                        found.append(sum(batch.tokens for batch in data) / (time.perf_counter() - began))
    alone, beside = (statistics.median(found) for found in speeds.values())
    return {
        "profile": BUSY,
        "precision": precision,
        "threads": processors,
        "loops": processors,
        "tokens_per_second": [round(alone), round(beside)],
        "share": round(beside / alone, 3),
    }


def measure(given: TrainingSettings, profiles: Sequence[str], beside: bool) -> Json:
    """``runs``, a record for each profile and way, and ``busy`` where it is asked for, each from a process of its own.

    Raises:
        BenchmarkError: with a process's last words when it has died.
    """
    import torch

    from model.training.precision import multiplies_bfloat16

    runs, native = [], multiplies_bfloat16(torch.device("cpu"))
    for way, limits in WAYS.items() if native else [*WAYS.items()][:1]:
        for profile in profiles:
            runs.append(
                {"way": way, **_process(given, f"{profile}, {way}", [profile], {"OMP_NUM_THREADS": "1"} | limits)}
            )
            print(f"  {profile}, {way}: {runs[-1]['ratio']}", file=sys.stderr)
    if not beside:
        return {"runs": runs}
    busy = _process(given, "beside busy loops", [BUSY, "--busy"], {})
    print(f"  {BUSY}, beside busy loops: {busy['share']}", file=sys.stderr)
    return {"runs": runs, "busy": busy}


def _process(given: TrainingSettings, what: str, worker: Sequence[str], environment: dict[str, str]) -> Json:
    """What a process that measures has found."""
    command = [sys.executable, "-m", "benchmarks.training", "--worker", *worker]
    command += [f"--{name}={value}" for name, value in given]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{what}: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


def training_table(result: Json) -> str:
    """Markdown: tokens per CPU second of a training step, ours and the other's."""
    rows = []
    for record in result["runs"]:
        mine, other = record["tokens_per_cpu_second"]
        what = f"`{record['profile']}` beside {OTHERS[record['profile']]}, {record['precision']}"
        where = record["way"] if record["way"] in WAYS else ""
        sizes = " / ".join(f"{count / 1e6:.2f}" for count in record["parameters"])
        shares = record.get("in_products", [])
        products = (
            [" / ".join(f"{share:.0%}" for share in shares), f"{record['ratio'] / shares[0]:.2f}"] if shares else []
        )
        rows.append([what, where, sizes, f"{mine:,}", f"{other:,}", f"{record['ratio']:.2f}", *products])
    heads = ["profile", "processor", "M parameters", "ours, tokens per CPU second", "the other's", "ratio"]
    bound = ""
    if len(rows[0]) > len(heads):
        heads += ["time in matrix products", "ratio with these alone"]
        bound = " The last column is what the ratio would be if all of ours but its matrix products took no time."
    caption = (
        f"One thread; both sides' real tokens; least of {result['rounds']} interleaved rounds. PyTorch "
        f"{result['torch']}. {processor(result['machine'])}, {result['date'][:10]}.{bound}"
    )
    table = f"{markdown(heads, rows)}\n\n{caption}"
    if not (busy := result.get("busy")):
        return table
    alone, beside = busy["tokens_per_second"]
    share = (
        f"On {busy['threads']} threads `{busy['profile']}` trains {alone:,} tokens a second, and {beside:,} beside "
        f"{busy['loops']} busy loops: {busy['share']:.2f} of it."
    )
    return f"{table}\n\n{share}"


def parser() -> Parser:
    """How much to measure; ``--worker`` is for the processes that it starts."""
    made = Parser("benchmarks.training", __doc__)
    made.add_argument("--profiles", nargs="+", choices=PROFILES, default=list(PROFILES), help="default: both")
    made.add_argument("--out", type=Path, default=RESULTS / "training.json", help="where the result is kept")
    made.add_argument(
        "--without_busy", action="store_true", help="leave out the busy loops, which want an idle machine"
    )
    made.add_settings(TrainingSettings)
    made.add_argument("--worker", choices=PROFILES, help=argparse.SUPPRESS)
    made.add_argument("--busy", action="store_true", help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or be one of the processes that do."""
    options = parser().parse_args(argv)
    given = read_settings(TrainingSettings, options)
    if options.worker:
        print(json.dumps(beside_others(given) if options.busy else work(options.worker, given)))
        return OK
    import torch

    result = {**heading("training"), "torch": torch.__version__, "rounds": given.rounds}
    result |= measure(given, options.profiles, not options.without_busy)
    keep(result, options.out, training_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
