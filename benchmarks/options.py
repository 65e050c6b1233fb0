"""The options that measurements of training have in common."""

from argparse import Namespace
from pathlib import Path

from benchmarks.machine import RESULTS
from model.config import Profile
from model.options import Parser
from pipelines.request import load_profile


def training_parser(name: str, description: str | None) -> Parser:
    """A parser of what benchmarks.NAME is to train, by which settings, and where its result is kept."""
    made = Parser(f"benchmarks.{name}", description)
    made.add_argument("corpus", type=Path, help="folder made by python -m model.corpus")
    made.add_argument("tokenizer", type=Path, help="folder made by python -m model.tokenizer")
    made.add_argument("--profile", default="small", help="whose settings (default: %(default)s)")
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="SECTION.KEY=VALUE", help="settings of it to change"
    )
    made.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", metavar="FILE", help="default: %(default)s")
    return made


def profile_of(options: Namespace) -> Profile:
    """The profile that is asked for, with its changes."""
    return load_profile(options.profile, options.set)
