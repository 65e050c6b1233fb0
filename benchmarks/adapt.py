"""What a few minutes on the rows of a domain are worth: to a network that has learned everything, there and elsewhere.

The network of a finished training goes on for some seconds (``init_from``): with rows of one domain of its own corpus,
and, to tell what the time alone is worth, with all of it. Both begin with the same weights and have the same schedule,
and of each the best weights by the valid rows of the same kind are taken.
All three are measured as int8 bundles, through the serving engine, on the test sets of the corpus.

    python -m benchmarks.adapt corpus tokenizer checkpoint --domain gettext --test_set test_ui --seconds 300

What is done lies in ``--work``: a measurement that was stopped goes on with the same command.
"""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.machine import ROOT, BenchmarkError, heading, keep, markdown
from benchmarks.networks import Networks
from benchmarks.options import profile_of, training_parser
from evaluation.figures import processor
from model.config import NetworkConfig, Profile, to_dict
from model.corpus import read_card, read_split, test_sets
from model.corpus.storage import CARD, SUFFIX, write_records
from model.files import sha256_file, write_json
from model.options import OK, Parser, read_settings, run
from model.settings import Count, Settings, from_dict, setting
from model.training.origin import read_info

FIGURES = ("steps", "seconds", "train_tokens", "valid_loss")  # taken from training.json
NETWORKS = ("before", "adapted", "longer")

Json = dict[str, Any]


class AdaptSettings(Settings):
    """With what, and for how long."""

    domain: str = setting("gettext", "Whose rows are learned.")
    rows: Count = setting(20_000, "So many of them at most.")
    test_set: str = setting("test_ui", "The test set that is of the domain.")
    seconds: float = setting(300.0, "Time of each of the two trainings.", "seconds", gt=0)
    rate: float = setting(0.3, "Learning rates, as a share of the profile's: weights that know much move little.", gt=0)


def write_domain(corpus: Path, out: Path, domain: str, rows: int) -> int:
    """A corpus of a domain's first rows in the train split, and of all in the valid split; how many are to be learned.

    Its own valid split: by that of all rows, weights that know everything stay the best.

    Raises:
        BenchmarkError: where there are none.
    """
    card, counts = read_card(corpus), {}
    for split, name, most in (("train", f"train-00000{SUFFIX}", rows), ("valid", f"valid{SUFFIX}", None)):
        own = (record for record in read_split(corpus, split) if record.get("domain") == domain)
        counts[split] = write_records(out / name, map(orjson.dumps, itertools.islice(own, most)))
        if not counts[split]:
            known = ", ".join(card["domains"]) or "none: its sources have no domains beside them"
            raise BenchmarkError(f"{corpus}: has no {split} rows of domain {domain}; known: {known}")
    name = f"train-00000{SUFFIX}"
    shard = {"file": name, "rows": counts["train"], "sha256": sha256_file(out / name)}
    write_json(out / CARD, card | {"counts": card["counts"] | counts, "shards": [shard], "holds": [*counts]})
    return counts["train"]


def measure(
    given: AdaptSettings, profile: Profile, corpus: Path, tokenizer: Path, checkpoint: Path, work: Path
) -> Json:
    """All of it, or what is left to be done.

    Raises:
        BenchmarkError: where the corpus has no such domain or test set, or ``work`` holds another measurement.
    """
    if given.test_set not in (known := test_sets(corpus)):
        raise BenchmarkError(f"{corpus}: has no test set {given.test_set}; known: {', '.join(known) or 'none'}")
    before = read_info(checkpoint)
    networks = Networks(profile, corpus, tokenizer, work, {"given": to_dict(given), "origin": before["sha256"]})
    rows = write_domain(corpus, work / "domain", given.domain, given.rows)
    if not (work / "before").exists():
        (work / "before").symlink_to(checkpoint.resolve())
    rates = {name: getattr(profile.training, name) * given.rate for name in ("adam_lr", "muon_lr")}
    steps = given.seconds / (before["seconds"] / before["steps"])
    network = from_dict(NetworkConfig, before["network"])
    told = {"before": before}
    for name, text in (("adapted", work / "domain"), ("longer", corpus)):
        told[name] = networks.train(name, text, network, steps, str(checkpoint), holdout=text, **rates)
    _, *others = networks.compared(*NETWORKS, test_set=given.test_set)
    return {
        **heading("adapt"),
        "profile": profile.name,
        "given": to_dict(given),
        "rows": rows,
        "networks": {name: {figure: info[figure] for figure in FIGURES} for name, info in told.items()},
        "scores": networks.scores(*NETWORKS),
        "p": {name: found.p for name, found in zip(NETWORKS[1:], others, strict=True)},
    }


def adapt_table(result: Json) -> str:
    """Markdown: how long each learned, and a line for each test set and direction."""
    given, networks = result["given"], result["networks"]
    rows = [
        ["minutes of training", *(f"{networks[name]['seconds'] / 60:.1f}" for name in NETWORKS)],
        ["million tokens", *(f"{networks[name]['train_tokens'] / 1e6:.2f}" for name in NETWORKS)],
    ]
    for entry in result["scores"]:
        rows.append([entry["place"], *(f"{entry[name][0]:.1f} / {entry[name][1]:.1f}" for name in NETWORKS)])
    chances = " and ".join(f"p = {result['p'][name]:.3f}" for name in NETWORKS[1:])
    caption = (
        f"BLEU / chrF, greedy, int8. Adapted: {result['rows']:,} rows of domain `{given['domain']}`; longer: all rows; "
        f"both at {given['rate']:g} of the rates. On {given['test_set']}, by chrF against before: {chances}. Profile "
        f"`{result['profile']}`, one seed. {processor(result['machine'])}, {result['date'][:10]}."
    )
    return f"{markdown(['', 'before', 'adapted', 'longer'], rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, and for how long."""
    made = training_parser("adapt", __doc__)
    made.add_argument("checkpoint", type=Path, help="folder of a finished training with this tokenizer")
    made.add_settings(AdaptSettings)
    made.add_argument("--work", type=Path, default=ROOT / "build" / "adapt", help="default: %(default)s")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and show."""
    options = parser().parse_args(argv)
    os.environ["PROMETHEUS_TRACKING"] = "off"
    given, profile = read_settings(AdaptSettings, options), profile_of(options)
    result = measure(given, profile, options.corpus, options.tokenizer, options.checkpoint, options.work)
    keep(result, options.out, adapt_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))
