"""Everything that a GPU is needed for, in one command of at most nine minutes.

python -m benchmarks.gpu prepare --corpus pairs.tsv.zst --max_rows 500000 --out carried   # anywhere
python -m benchmarks.gpu check carried                                                    # where the GPU is
python -m benchmarks.gpu check carried --device cpu --minutes 0.3                         # a rehearsal without one
"""

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.needed import complaint

try:
    from benchmarks.gpu.checking import BUDGETS, INSIDE, check, measured, passed
    from benchmarks.gpu.folder import opened, prepare
    from benchmarks.gpu.table import gpu_table
    from benchmarks.machine import BenchmarkError
    from model.files import write_json
    from model.options import FAILED, OK, Parser, run
except ModuleNotFoundError:
    if told := complaint():
        sys.exit(f"error: {told}")
    raise


def parser() -> Parser:
    """What to prepare, what to check, and how long."""
    made = Parser("benchmarks.gpu", __doc__, "Exit status of check: 0 all is as it must be; 1 something is not.")
    commands = made.add_subparsers(dest="command", required=True, help="what to do", parser_class=ArgumentParser)
    preparing = commands.add_parser("prepare", help="make a folder to carry: tokens, tokenizer, settings")
    preparing.add_argument(
        "--corpus", nargs="+", default=[], metavar="SOURCE", help="text (default: the profile's own)"
    )
    preparing.add_argument("--profile", default="full", help="whose settings are trained (default: %(default)s)")
    preparing.add_argument("--max_rows", type=int, default=0, help="rows that are taken; 0 takes all (default)")
    preparing.add_argument("--out", required=True, type=Path, help="the folder")
    checking = commands.add_parser("check", help="train, compare, kill and resume on this machine")
    checking.add_argument("folder", type=Path, help="a folder that was prepared")
    checking.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal of the same code")
    checking.add_argument("--minutes", type=float, default=6.0, help="of training (default: %(default)s)")
    checking.add_argument("--out", type=Path, help="the result's file (default: one in results/, named by the GPU)")
    part = commands.add_parser("part", help="one part, in the process of its own that check begins")
    part.add_argument("name", choices=[*BUDGETS, *INSIDE], help="which part")
    part.add_argument("folder", type=Path, help="a folder that was prepared")
    part.add_argument("--device", choices=("cuda", "cpu"), required=True, help="where to train")
    part.add_argument("--seconds", type=float, required=True, help="that it may take")
    part.add_argument("--work", type=Path, required=True, help="a folder that it may fill")
    part.add_argument("--out", type=Path, required=True, help="where its figures go")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare, or check, or be one of the processes that do."""
    options = parser().parse_args(argv)
    if options.command == "prepare":
        print(json.dumps(prepare(options.corpus, options.profile, options.max_rows, options.out)))
        return OK
    if told := complaint():
        raise BenchmarkError(told)
    prepared = opened(options.folder, options.device)
    if options.command == "part":
        write_json(options.out, measured(options.name, prepared, options.seconds, options.work))
        return OK
    if not options.minutes > 0:
        raise BenchmarkError(f"--minutes: must be above 0, not {options.minutes}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which takes the part at work along
    result, out = check(prepared, options.minutes, options.out)
    print(gpu_table([result]))
    print(f"\n{out}", file=sys.stderr)
    return OK if passed(result) else FAILED


if __name__ == "__main__":
    sys.exit(run(main))
