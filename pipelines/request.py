"""What a run is asked to do, checked before anything starts: every problem is found and told together."""

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from model.config import ConfigError, NetworkConfig, Profile, fit_warmup, from_dict
from model.corpus import CorpusError
from model.corpus.files import stem
from model.corpus.reading import Tally, read_documents, read_pairs
from model.corpus.sources import expand, gather
from model.options import Parser
from model.tokenizer.vocabulary import SPECIAL_TOKENS
from pipelines.given import not_text, settings, sources
from pipelines.models import find_origin, find_teacher

PROFILES = Path(__file__).resolve().parent / "profiles"
DEMO = "demo"  # the profile of a run that is given none


class Request(NamedTuple):
    """What a run is asked to do, and what is to be said before it starts."""

    profile: Profile
    corpus: list[str]
    tests: list[str]
    notes: list[str]
    init_from: str = ""


def read_request(
    name: str,
    overrides: Sequence[str],
    corpus: Sequence[str],
    tests: Sequence[str],
    init_from: str = "",
    runs: Path = Path("runs"),
) -> Request:
    """The request, when it can be run; ``name`` is a profile's, empty for the demo.

    Args:
        init_from: A run's id, a folder or an address with weights to begin with; empty for none.
        runs: Folder of the runs.

    Raises:
        ConfigError: with every problem of the profile, of what is changed in it, and of the sources.
    """
    corpus, tests, overrides = sources(corpus), sources(tests), settings(overrides)
    problems = not_text([*corpus, *tests])
    profile, notes = Profile(), list[str]()
    asked: dict[str, Any] = {}
    network: NetworkConfig | None = None
    try:
        profile = load_profile(name or DEMO, overrides)
        network = profile.network
        for override in overrides:
            _apply(asked, override)
        profile, notes, unreachable = _fit_floors(profile, asked, corpus, tests)
        profile, unfit = find_teacher(profile, runs)
        problems += [*unreachable, *unfit, *([] if corpus else own_text_problems(profile))]
    except ConfigError as error:
        problems += str(error).splitlines()
    problems += source_problems(profile, corpus, tests)
    begun, more = find_origin(init_from, runs, network)
    if problems := [*problems, *more]:
        raise ConfigError("\n".join(["Nothing was run:", *problems]))
    training, fitted = fit_warmup(profile.training)
    profile = profile.model_copy(update={"training": training})
    return Request(profile, corpus, tests, [*notes, *filter(None, [fitted])], begun)


def add_request(parser: Parser) -> None:
    """The options that ask for a run, wherever it runs."""
    names = ", ".join(profile_names())
    parser.add_argument("--profile", default="", help=f"{names}, or a YAML file (default: {DEMO})")
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument(
        "--corpus",
        metavar="SOURCE",
        help=".tsv, .txt, .jsonl or .parquet, also .gz or .zst; a file, a folder, s3://, https:// or hf:// address. "
        "Several in one value stand apart by blanks; the name of a file that exists is never taken apart. "
        "Without it: the profile's own text, corpus.sources",
        **many,
    )
    parser.add_argument("--test", metavar="FILE", help="test files, each reported by its name", **many)
    parser.add_argument(
        "--init_from",
        default="",
        metavar="RUN",
        help="begin with the weights and the tokenizer of a run: its id, latest, live, its folder or bundle; or with "
        "those of a training folder, also at an address",
    )
    parser.add_argument("--set", metavar="SECTION.KEY=VALUE", help="settings of the profile to change", **many)


def new_run_id(started: datetime, name: str) -> str:
    """A run's name; names sort by time, and two runs in one second do not meet."""
    readable = re.sub(r"[^\w.-]+", "-", Path(name).stem)[:40]  # a profile's name may be any text of any length
    return f"{started:%Y%m%dT%H%M%SZ}-{readable}-{secrets.token_hex(2)}"


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name: str, overrides: Sequence[str] = ()) -> Profile:
    """Read a profile and apply ``section.key=value`` overrides (values are YAML).

    Args:
        name: A shipped profile's name, or the path of a YAML file.
        overrides: For example ``["training.steps=50", "gate.min_chrf={}"]``.

    Raises:
        ConfigError: with every problem of the file and of the overrides.
    """
    path = PROFILES / f"{name}.yaml" if name in profile_names() else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        known = ", ".join(profile_names())
        raise ConfigError(f"no profile {name!r}; shipped: {known}; or give the path of a .yaml file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections such as 'training:', found {data!r}")
    _find_text(data, path.parent)
    return read_profile({"name": path.stem, **data}, path.stem, overrides)


def read_profile(data: dict[str, Any], where: str, overrides: Sequence[str]) -> Profile:
    """The profile of these sections, which ``overrides`` change; they are called ``where`` in complaints.

    Raises:
        ConfigError: with every problem of the sections and of the overrides.
    """
    problems = [problem for override in overrides if (problem := _apply(data, override))]
    try:
        profile = from_dict(Profile, data, where=where)
        problems += [f"{where}.{problem}" for problem in contradictions(profile)]
    except ConfigError as error:
        problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(problems))
    return profile


def contradictions(profile: Profile) -> Iterator[str]:
    """Settings that are right one by one, and together could train, judge or publish nothing; a sentence for each."""
    corpus, training = profile.corpus, profile.training
    if profile.network.family == "seq2seq" and corpus.kind == "text":
        yield "network.family: a seq2seq network needs corpus.kind parallel; for text take family decoder"
    for name, why in (
        ("heldout_rows", "without held-out rows nothing can be judged, nor published"),
        ("valid_rows", "they choose the best weights and calibrate int8"),
    ):
        if not getattr(corpus, name):
            yield f"corpus.{name}: must be at least 1, not 0: {why}"
    control = [*SPECIAL_TOKENS, *(corpus.languages if corpus.kind == "parallel" else ())]
    if profile.tokenizer.vocab_size <= 256 + len(control):
        yield (
            f"tokenizer.vocab_size: {profile.tokenizer.vocab_size} leaves no room for text beside the 256 bytes and "
            f"{len(control)} control tokens; some hundreds more are usual"
        )
    if training.patience and training.patience * training.eval_every >= training.steps:
        yield (
            f"training.patience: {training.patience} validations, one every {training.eval_every} steps, are not over "
            f"before step {training.steps}, the last: lower training.eval_every, or set patience to 0"
        )


def source_problems(profile: Profile, corpus: Sequence[str], tests: Sequence[str]) -> list[str]:
    """What is wrong of what can be looked at now: local files and folders, and the names of test sets."""
    problems = []
    for variable, source in (*(("CORPUS", source) for source in corpus), *(("TEST", source) for source in tests)):
        try:
            if "://" not in source:
                gather(*(([source], []) if variable == "CORPUS" else ([], [source])), profile.corpus)
        except CorpusError as error:
            problems.append(f"{variable}: {error}")
    stems = Counter(map(stem, tests))
    twice = [name for name, count in stems.items() if count > 1]
    return problems + [f"TEST: more than one file is named {name!r}; test sets need their own" for name in twice]


def own_text_problems(profile: Profile) -> Iterator[str]:
    """Why a run that is given no text has none of its profile's own, in the languages that the profile is set to."""
    config = profile.corpus
    give = f"give CORPUS={'file.txt' if config.kind == 'text' else 'pairs.tsv'}, or set corpus.sources"
    if not config.sources:
        yield f"profile {profile.name} has no text of its own: {give}"
    try:
        for source in config.sources:
            for file in [] if "://" in source else expand(source, config.kind, config.languages):
                tally = Tally(config.languages)
                pairs = config.kind == "parallel"  # as much is read as shows that it can be
                next(iter(read_pairs(file, config.languages, tally) if pairs else read_documents(file, tally)), None)
    except CorpusError as error:
        fits = f"is not {config.kind} in [{', '.join(config.languages)}]: {give}"
        yield f"the text of profile {profile.name} {fits} ({error})"


def _fit_floors(
    profile: Profile, asked: Mapping[str, Any], corpus: Sequence[str], tests: Sequence[str]
) -> tuple[Profile, list[str], list[str]]:
    """The profile with the chrF floors that this run can reach, a sentence on each one left out, and the problems.

    A profile serves many runs. Its own floors hold for its own languages, and those on held-out rows of its own text
    for that text; any other run leaves them out and says so, as the gate does with floors on test sets that it is not
    given. What is ``asked`` of this very run is never left out. Where no floor holds, a copy of the source and a loss
    without context are refused all the same (evaluation/gate.py).
    """
    own = "min_chrf" not in asked.get("gate", {})
    other_languages = "languages" in asked.get("corpus", {})
    spoken = ", ".join(profile.corpus.languages)
    directions = [f"{source}-{target}" for source, target in permutations(profile.corpus.languages, 2)]
    # A folder or a data set may bring a test set of its own.
    open_ended = any("://" in source or os.path.isdir(source) for source in corpus)
    test_sets = ["heldout", *map(stem, tests)]
    kept: dict[str, float] = {}
    left_out: list[str] = []
    problems: list[str] = []
    for place, floor in profile.gate.min_chrf.items():
        test_set, _, direction = place.rpartition("/")
        if profile.corpus.kind == "text":
            problems.append(
                f"gate.min_chrf: running text has no translation to score, so {place} cannot be measured; set "
                "SET='gate.min_chrf={}' and bound the loss instead, SET=gate.max_loss=2.2"
            )
        elif not test_set or not direction:
            problems.append(f"gate.min_chrf: {place!r} is not 'test set/direction', as in 'heldout/{directions[0]}'")
        elif direction not in directions and own and other_languages:
            left_out.append(f"floor {place} of profile {profile.name} is left out: this run is in {spoken}")
        elif test_set == "heldout" and own and corpus and profile.corpus.sources:
            left_out.append(f"floor {place} of profile {profile.name} is left out: it is for the profile's own text")
        elif direction not in directions:
            problems.append(
                f"gate.min_chrf: {place} cannot be measured, for corpus.languages is [{spoken}] and its "
                f"directions are {' and '.join(directions)}"
            )
        elif test_set not in test_sets and not own and not open_ended:
            problems.append(
                f"gate.min_chrf: {place} cannot be measured, for the test sets of this run are {', '.join(test_sets)}; "
                "give the file, TEST=..., or leave the floor out"
            )
        else:
            kept[place] = floor
    gate = profile.gate.model_copy(update={"min_chrf": kept})
    return profile.model_copy(update={"gate": gate}), left_out, problems


def _find_text(data: dict[str, Any], folder: Path) -> None:
    """Put in place of the names in ``corpus.sources`` the paths from here of the files in the profile's folder."""
    corpus, here = data.get("corpus"), Path.cwd()
    names: Any = corpus.get("sources") if isinstance(corpus, dict) else None
    for i, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and "://" not in name:
            path = (folder / name).absolute()
            names[i] = str(path.relative_to(here) if path.is_relative_to(here) else path)


def _apply(data: dict[str, Any], override: str) -> str:
    """Set one ``section.key=value`` in place; returns the problem, or an empty string."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"--set {override!r}: expected section.key=value, for example training.steps=50"
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            return f"--set {override!r}: {section!r} is not a section"
    try:
        data[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return f"--set {override!r}: the value is not YAML: {error}"
    return ""
