"""Going on with a run that was killed or has failed, in its own folder and under its own name.

What the run was asked is read from its request.json. What is given anew is laid over it, and pipelines/reuse.py finds
which steps have to be run again for it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.outcome import WELL
from evaluation.results import Summary
from model.config import ConfigError, to_dict
from model.corpus.files import display
from model.errors import ProjectError
from model.settings import differing
from pipelines.folder import REQUEST, SUMMARY, RunningError, ended, runner_lives
from pipelines.given import not_text, settings, sources
from pipelines.models import find_origin, find_teacher
from pipelines.request import Request, read_profile, source_problems
from pipelines.reuse import other_code, trained

if TYPE_CHECKING:
    from pipelines.containers import Containers

Json = dict[str, Any]
TEACHER = "SET=distillation.teacher"
SHOWN = 3  # runs that a refusal names
# What training depends on.
UP_TO_TRAINING = {"CORPUS", "TEST", "INIT_FROM", "corpus", "tokenizer", "network", "training", "distillation"}


class ResumeError(ProjectError):
    """A run that cannot go on."""


def find(runs: Path, name: str) -> Path:
    """The folder of the run of this id, or of the newest one, for "latest"; a path to the folder will do, too.

    Raises:
        ResumeError: where there is no such run, or nothing of it is left to be done.
        RunningError: where it has not ended.
    """
    run_dir = runs / Path(name).name
    if run_dir.is_symlink():
        run_dir = runs / run_dir.readlink().name
    if not (run_dir / REQUEST).is_file():
        known = sorted({path.parent.resolve() for path in runs.glob(f"*/{REQUEST}")}, reverse=True)
        open_ended = [path.name for path in known if not finished(path)][:SHOWN]
        why = "has no request.json: it ran elsewhere, or before runs could go on" if run_dir.is_dir() else "is no run"
        raise ResumeError(f"{run_dir} {why}; runs that can go on: {', '.join(open_ended) or 'none'}")
    if runner_lives(run_dir):
        raise RunningError(f"run {run_dir} is still at work; it can go on when it has ended")
    if finished(run_dir):
        raise ResumeError(f"run {run_dir} has published, and nothing of it is left to be done; begin another run")
    return run_dir


def finished(run_dir: Path) -> bool:
    """Whether the run came to its end and published."""
    return ended(run_dir) and (run_dir / SUMMARY).exists() and Summary.read(run_dir).status in WELL


def asked_of(run_dir: Path) -> Json:
    """What the run was asked: its request.json."""
    found: Json = json.loads((run_dir / REQUEST).read_text("utf-8"))
    return found


def read_again(
    run_dir: Path,
    profile: str,
    overrides: Sequence[str],
    corpus: Sequence[str],
    tests: Sequence[str],
    init_from: str = "",
    runs: Path = Path("runs"),
) -> Request:
    """The request of a run that goes on: what it was asked, with what is given now laid over it.

    Raises:
        ConfigError: with every problem of what is given, of what was not kept and has to be given again, and of what
            would spoil what the run has trained.
    """
    asked, overrides = asked_of(run_dir), settings(overrides)
    before = asked["given"]
    again = {"CORPUS": sources(corpus), "TEST": sources(tests)}
    again |= {"SET=corpus.sources": again["CORPUS"] or overrides, "INIT_FROM": [*filter(None, [init_from])]}
    again[TEACHER] = [override for override in overrides if override.startswith("distillation.teacher=")]
    init_from = init_from or before.get("INIT_FROM", "")
    corpus, tests = again["CORPUS"] or before["CORPUS"], again["TEST"] or before["TEST"]
    problems = not_text([*corpus, *tests])
    if profile:
        problems.append("PROFILE: a run goes on with the settings that it has; SET=... changes some")
    problems += [
        f"{name}: the address has a key in it, which was not kept; give it again"
        for name in before["without_keys"]
        if not again[name]
    ]
    try:
        found = read_profile(json.loads(json.dumps(asked["settings"])), asked["profile"], overrides)
        problems += source_problems(found, corpus, tests)
        begun, more = find_origin(init_from, runs, found.network) if again["INIT_FROM"] else (init_from, [])
        found, unfit = find_teacher(found, runs) if again[TEACHER] else (found, [])
        problems += more + unfit
        was = {**asked["settings"], **{name: before.get(name, "") for name in ("CORPUS", "TEST", "INIT_FROM")}}
        now = {"CORPUS": [*map(display, corpus)], "TEST": [*map(display, tests)], "INIT_FROM": display(begun)}
        now = {**without_keys(to_dict(found)), **now}
        changed = [*differing(was, now)]
        spoiling = [name for name in changed if name.partition(".")[0] in UP_TO_TRAINING] + other_code(run_dir)
        if spoiling and trained(run_dir):
            problems.append(
                f"{', '.join(spoiling)}: with another one, training would begin anew, and what this run has trained be "
                "lost; begin another run for that, without RESUME"
            )
    except ConfigError as error:
        problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(["Nothing was run:", *problems]))
    notes = [f"other than before: {', '.join(changed)}"] if changed else []
    return Request(found, [*corpus], [*tests], notes, begun)


def as_kept(request: Request, store: str, containers: "Containers | None") -> Json:
    """What request.json holds besides the settings; addresses are kept without the keys in them."""
    own = [] if request.corpus else request.profile.corpus.sources
    named = {
        "CORPUS": request.corpus,
        "TEST": request.tests,
        "SET=corpus.sources": own,
        "INIT_FROM": [request.init_from],
        TEACHER: [request.profile.distillation.teacher],
    }
    return {
        "CORPUS": [*map(display, request.corpus)],
        "TEST": [*map(display, request.tests)],
        "INIT_FROM": display(request.init_from),
        "without_keys": [name for name, listed in named.items() if any(display(each) != each for each in listed)],
        "store": store,
        "runner": "docker" if containers else "local",
        "variant": containers.variant if containers else "",
    }


def without_keys(sections: Json) -> Json:
    """A profile's sections as they may be kept and shown: without the keys in addresses."""
    corpus, asked = sections["corpus"], sections["distillation"]
    return {
        **sections,
        "corpus": {**corpus, "sources": [*map(display, corpus["sources"])]},
        "distillation": {**asked, "teacher": display(asked["teacher"])},
    }
