"""What a run is asked to do, checked before anything starts: every problem is found and told together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from evaluation.gate import impossible, unknown_test_sets
from model.config import ConfigError, CorpusConfig, Profile, from_dict
from model.corpus import CorpusError
from model.corpus.files import stem
from model.corpus.reading import Tally, read_documents, read_pairs
from model.corpus.sources import expand, gather
from model.errors import ProjectError

PROFILES = Path(__file__).resolve().parent / "profiles"
RUNNERS = ("local", "docker", "cluster")


class UsageError(ProjectError, ValueError):
    """A request that cannot be run; the message lists every problem, one per line."""


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name: str, overrides: Sequence[str] = ()) -> Profile:
    """Read a profile and apply ``section.key=value`` overrides (values are YAML).

    Args:
        name: A shipped profile's name, or the path of a YAML file.
        overrides: For example ``["training.steps=50", "gate.min_chrf={}"]``.

    Raises:
        UsageError: with every problem of the file and of the overrides.
    """
    path = PROFILES / f"{name}.yaml" if name in profile_names() else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        known = ", ".join(profile_names())
        raise UsageError(f"no profile {name!r}; shipped: {known}; or give the path of a .yaml file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected sections such as 'training:', found {data!r}")
    _find_text(data, path.parent)
    problems = [problem for override in overrides if (problem := _apply(data, override))]
    try:
        profile = from_dict(Profile, {"name": path.stem, **data}, where=path.stem)
    except ConfigError as error:
        problems += str(error).splitlines()
    if problems:
        raise UsageError("\n".join(problems))
    if profile.network.family == "seq2seq" and profile.corpus.kind == "text":
        raise UsageError(f"{path.stem}: a seq2seq network needs corpus.kind parallel; for text take family decoder")
    if problems := impossible(profile):
        raise UsageError("\n".join(f"{path.stem}: {problem}" for problem in problems))
    return profile


def check_floors(overrides: Sequence[str], corpus: Iterable[str], tests: Iterable[str]) -> None:
    """Refuse a chrF floor that was asked of this run for a test set that it is not given.

    A profile serves many runs, so its own floors are skipped (and said to be) where their test set is not given.

    Raises:
        UsageError: naming the floors.
    """
    asked: dict[str, Any] = {}
    if any(_apply(asked, override) for override in overrides):
        return  # told by load_profile
    section = asked.get("gate")
    floors = section.get("min_chrf") if isinstance(section, dict) else None
    # A folder or a data set may bring a test set of its own.
    if not isinstance(floors, dict) or any("://" in source or os.path.isdir(source) for source in corpus):
        return
    given = [stem(source) for source in tests]
    if unknown := unknown_test_sets(floors, given):
        raise UsageError(
            f"gate.min_chrf: {', '.join(unknown)} cannot be measured, for the test sets of this run are "
            f"{', '.join(['heldout', *given])}; give the file, TEST=..., or leave the floor out"
        )


def check_text(profile: Profile, corpus: Sequence[str]) -> None:
    """Refuse a run that is given no text, where the profile has none of its own that can be read as it is set.

    Raises:
        UsageError: saying what to give.
    """
    if corpus:
        return
    config = profile.corpus
    give = f"give CORPUS={'file.txt' if config.kind == 'text' else 'pairs.tsv'}, or set corpus.sources"
    if not config.sources:
        raise UsageError(f"profile {profile.name} has no text of its own: {give}")
    for source in config.sources:
        try:
            if "://" not in source:
                _first_row(source, config)
        except CorpusError as error:
            languages = ", ".join(config.languages)
            fits = f"is not {config.kind} in [{languages}]: {give}"
            raise UsageError(f"the text of profile {profile.name} {fits} ({error})") from None


def check_sources(profile: Profile, corpus: Iterable[str], tests: Iterable[str]) -> None:
    """Look at what can be looked at now: local files and folders, and the names of test sets.

    Raises:
        UsageError: naming every source that is missing, empty or not of a type that is read, and test files whose names
            clash.
    """
    corpus, tests = list(corpus), list(tests)
    problems = []
    for variable, sources in (("CORPUS", corpus), ("TEST", tests)):
        for source in sources:
            if "://" in source:
                continue
            if not os.path.exists(source):
                problems.append(f"{variable}: no file {source!r}")
            elif os.path.isfile(source) and os.path.getsize(source) == 0:
                problems.append(f"{variable}: the file {source!r} is empty")
            else:
                try:
                    gather(*(([source], []) if variable == "CORPUS" else ([], [source])), profile.corpus)
                except CorpusError as error:
                    problems.append(f"{variable}: {error}")
    stems = Counter(map(stem, tests))
    twice = [name for name, count in stems.items() if count > 1]
    problems += [f"TEST: more than one file is named {name!r}; test sets need names of their own" for name in twice]
    if problems:
        raise UsageError("\n".join(problems))


def check_runner(runner: str) -> None:
    """Refuse a runner that does not exist, or not yet."""
    if runner not in RUNNERS:
        raise UsageError(f"RUNNER must be local, not {runner!r}")
    if runner != "local":
        raise UsageError(
            f"RUNNER={runner} is later work: run with RUNNER=local, or `make pipeline-compile` and upload the result"
        )


def _first_row(source: str, config: CorpusConfig) -> None:
    """Read as much of a source's files as shows that they can be read."""
    for file in expand(source, config.kind, config.languages):
        tally = Tally(config.languages)
        pairs = config.kind == "parallel"
        next(iter(read_pairs(file, config.languages, tally) if pairs else read_documents(file, tally)), None)


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
