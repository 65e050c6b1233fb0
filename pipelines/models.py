"""Models that a request names: one whose weights a run begins with, and one that teaches it.

A run is named by its id, by latest or live, by its folder or its bundle. Links are followed now, for latest and live
move on. What lies at an address is looked at by preflight.
"""

from pathlib import Path

from evaluation.teacher import TeacherError, check
from model.bundle import BundleError
from model.config import NetworkConfig, Profile
from model.store import StoreError
from model.store.fetching import fetched
from model.training import origin
from model.training.checkpoint import CheckpointError


def find_origin(name: str, runs: Path, network: NetworkConfig | None) -> tuple[str, list[str]]:
    """Where weights to begin with are: an address, or the folder of a run or a training; and what is wrong of it."""
    if not name or "://" in name:
        return name, []
    if (place := _there(name, runs)) is None:
        return name, [f"INIT_FROM: {name} is neither a folder, nor a run in {runs}"]
    try:
        folder = origin.find(place)
        found = _from_here(folder)
        if network:
            origin.check(origin.read_info(folder), network, found)
        return found, []
    except CheckpointError as error:
        return name, [f"INIT_FROM: {error}"]


def find_teacher(profile: Profile, runs: Path) -> tuple[Profile, list[str]]:
    """The profile with the folder of the bundle that is to teach in the place of its name; and what is wrong of it."""
    name, asked = profile.distillation.teacher, profile.distillation
    if not name or "://" in name:
        return profile, []
    if (place := _there(name, runs)) is None:
        return profile, [f"distillation.teacher: {name} is neither a folder, nor a run in {runs}"]
    try:
        with fetched(str(place)) as bundle:
            check(bundle, profile.corpus.languages, asked.beams, name)
            asked = asked.model_copy(update={"teacher": _from_here(bundle.path)})
        return profile.model_copy(update={"distillation": asked}), []
    except (BundleError, StoreError, TeacherError) as error:
        return profile, [f"distillation.teacher: {error}"]


def _there(name: str, runs: Path) -> Path | None:
    """What a name means, without links; None where it means nothing."""
    return next((path.resolve() for path in (Path(name), runs / name) if path.exists()), None)


def _from_here(folder: Path) -> str:
    """The path of a folder from here, where it lies below."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
