"""Which network learns best in the same time, and what it then costs to serve.

Networks that differ from a profile's in a few settings train one after another for the same time, on the same prepared
corpus. How many steps go into the time is told by a short run of each; the schedule is fitted to them. A vocabulary of
another size gets a tokenizer of its own, whose training does not count, and losses are told for each character.

Then each network, as an int8 bundle, translates sources of the corpus in eights, as a busy server does, on one thread:
the least CPU time of several rounds, in which the networks take turns. Every translation is as long as the longest
reference of its eight, so that the time is the network's alone and not that of what it happens to say.

    python -m benchmarks.architecture corpus tokenizer --seconds 1200
    python -m benchmarks.architecture corpus tokenizer --seconds 1200 --try narrow network.d_ff=1024

What is done lies in ``--work``: a measurement that was stopped goes on with the same command.
"""

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.blocks import decode
from benchmarks.machine import ROOT, heading, keep, markdown
from benchmarks.networks import FIGURES, Networks
from benchmarks.options import training_parser
from evaluation.figures import processor
from model.bundle import Bundle
from model.config import Profile, to_dict
from model.corpus import read_split
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, setting
from model.tokenizer import Tokenizer, load_tokenizer
from model.tokenizer.prompt import encode_prompt
from model.tokenizer.train import train_tokenizer
from pipelines.request import load_profile
from serving.engine import EngineConfig
from serving.engine.limits import Limits
from serving.engine.runtime import Runtime

PLAIN = "the profile's"
# About as many parameters each, where that is not the question itself.
TRIED: dict[str, list[str]] = {
    "8 + 2 layers": ["network.encoder_layers=8", "network.d_ff=944"],
    "4 + 2 layers": ["network.encoder_layers=4", "network.d_ff=1792"],
    "6 + 1 layers": ["network.decoder_layers=1", "network.d_ff=1536"],
    "6 + 4 layers": ["network.decoder_layers=4", "network.d_ff=912"],
    "width 192": ["network.d_model=192", "network.heads=3", "network.d_ff=1888"],
    "width 320": ["network.d_model=320", "network.heads=5", "network.d_ff=832"],
    "4 key/value heads": ["network.kv_heads=4", "network.d_ff=1024"],
    "SSRU": ["network.decoder_mixer=ssru"],
    "4,000 pieces": ["tokenizer.vocab_size=4000"],
    "16,000 pieces": ["tokenizer.vocab_size=16000"],
}
TOGETHER = 8  # texts

Json = dict[str, Any]


class ArchitectureSettings(Settings):
    """How long, and how much is translated."""

    seconds: float = setting(1200.0, "Time in which each network is trained.", "seconds", gt=0)
    pace_steps: int = setting(20, "Steps of the short runs by which the number of steps in a time is told.", ge=4)
    texts: Count = setting(64, "Held-out texts that are translated.")
    rounds: Count = setting(5, "Rounds, of which the least CPU time counts.")


class Texts(NamedTuple):
    """What is translated: prompts, how many tokens are said to each, and the characters of the references."""

    prompts: list[list[int]]
    tokens: list[int]
    characters: int


def held_out(corpus: Path, tokenizer: Tokenizer, languages: Sequence[str], count: int) -> Texts:
    """The first held-out rows, from the first language to the second, in groups of like lengths as a queue has them."""
    source, target = languages
    rows = sorted(itertools.islice(read_split(corpus, "heldout"), count), key=lambda row: len(row[source]))
    prompts = [
        encode_prompt(tokenizer, family="seq2seq", task="translation", text=row[source], target=target) for row in rows
    ]
    tokens = [len(tokenizer.encode(row[target])) + 1 for row in rows]
    return Texts(prompts, tokens, sum(len(row[target]) for row in rows))


def tokens_per_character(corpus: Path, tokenizer: Tokenizer, languages: Sequence[str]) -> float:
    """Of what validation asks for: rows go in both directions in turn, and each answer ends with a token."""
    tokens = characters = 0
    for number, row in enumerate(read_split(corpus, "valid")):
        text = row[languages[0] if number % 2 else languages[1]]
        tokens, characters = tokens + len(tokenizer.encode(text)) + 1, characters + len(text)
    return tokens / characters


class Candidate:
    """One of the networks, with its tokenizer, in a folder of its own."""

    def __init__(self, name: str, profile: Profile, corpus: Path, tokenizer: Path, work: Path, asked: Json) -> None:
        self.name, self.profile, self.corpus = name, profile, corpus
        folder = work / re.sub(r"[^\w]+", "-", name)
        self.tokenizer = tokenizer
        if profile.tokenizer.vocab_size != load_tokenizer(tokenizer).vocab_size:
            self.tokenizer = folder / "tokenizer"
            if not self.tokenizer.exists():
                train_tokenizer(corpus, self.tokenizer, profile.tokenizer)
        self.pieces = load_tokenizer(self.tokenizer)
        self.networks = Networks(profile, corpus, self.tokenizer, folder, asked)

    def train(self, given: ArchitectureSettings) -> Json:
        """What its training told, with the loss for each character of the answers."""
        network = self.profile.network
        pace = self.networks.pace("pace", network, given.pace_steps)
        told = self.networks.train("trained", self.corpus, network, given.seconds / pace)
        each = tokens_per_character(self.corpus, self.pieces, told["languages"])
        return {figure: told[figure] for figure in FIGURES} | {"loss_per_character": told["valid_loss"] * each}

    def opened(self, count: int) -> tuple[Runtime, Texts]:
        """Its int8 bundle on one thread, and what it is to translate."""
        bundle = Bundle.load(self.networks.bundle("trained")[0])
        config = EngineConfig(threads=1, provider="cpu", slots=TOGETHER)
        texts = held_out(self.corpus, self.pieces, bundle.languages, count)
        return Runtime(bundle, config, Limits.of(bundle, TOGETHER)), texts


def translating(runtime: Runtime, texts: Texts) -> float:
    """CPU seconds of all texts, in eights."""
    places = [slice(begin, begin + TOGETHER) for begin in range(0, len(texts.prompts), TOGETHER)]
    return sum(decode(runtime, texts.prompts[place], max(texts.tokens[place])) for place in places)


def measure(given: ArchitectureSettings, candidates: Sequence[Candidate]) -> list[Json]:
    """One record for each network."""
    records = []
    for candidate in candidates:
        records.append({"network": candidate.name, **candidate.train(given)})
        print(f"  {candidate.name}: {records[-1]['loss_per_character']:.3f} nats a character", file=sys.stderr)
    opened = [candidate.opened(given.texts) for candidate in candidates]
    seen = [[translating(*one) for one in opened] for _ in range(given.rounds)]
    for record, (_, texts), seconds in zip(records, opened, zip(*seen, strict=True), strict=True):
        record["us_per_character"] = round(min(seconds) / texts.characters * 1e6, 2)
    return records


def architecture_table(result: Json) -> str:
    """Markdown: a line for each network, the one that learned best first."""
    records = sorted(result["networks"], key=lambda record: record["loss_per_character"])
    rows = [
        [
            record["network"],
            f"{record['parameters'] / 1e6:.2f}",
            f"{record['steps']:,}",
            f"{record['train_tokens'] / 1e6:.2f}",
            f"{record['valid_loss']:.3f}",
            f"**{record['loss_per_character']:.3f}**",
            f"{record['us_per_character']:.1f}",
        ]
        for record in records
    ]
    heads = ["network", "M parameters", "steps", "M tokens", "loss per token", "per character", "µs per character"]
    given = result["given"]
    caption = (
        f"{given['seconds'] / 60:.0f} minutes of training each; validation loss in nats; CPU microseconds of a "
        f"translation's character in int8, {TOGETHER} texts at a time on one thread, least of {given['rounds']} "
        f"rounds. Profile `{result['profile']}`, one seed. {processor(result['machine'])}, {result['date'][:10]}."
    )
    return f"{markdown(heads, rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, how long, and which networks."""
    made = training_parser("architecture", __doc__)
    made.add_settings(ArchitectureSettings)
    made.add_argument(
        "--try", nargs="+", action="append", default=[], dest="tried", metavar="WORD",
        help="a name and the settings SECTION.KEY=VALUE that make another network; as often as there are "
        f"networks, in place of those that are tried without: {', '.join(TRIED)}",
    )  # fmt: skip
    made.add_argument("--work", type=Path, default=ROOT / "build" / "architecture", help="default: %(default)s")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and show."""
    options = parser().parse_args(argv)
    os.environ["PROMETHEUS_TRACKING"] = "off"
    given = read_settings(ArchitectureSettings, options)
    tried = {PLAIN: [], **({name: settings for name, *settings in options.tried} or TRIED)}
    profiles = {name: load_profile(options.profile, [*options.set, *settings]) for name, settings in tried.items()}
    asked = {"given": to_dict(given)}
    where = (options.corpus, options.tokenizer, options.work, asked)
    candidates = [Candidate(name, profile, *where) for name, profile in profiles.items()]
    result = {**heading("architecture"), "profile": options.profile, "given": to_dict(given)}
    result["networks"] = measure(given, candidates)
    keep(result, options.out, architecture_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
