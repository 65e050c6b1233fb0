"""The link ``live`` of a folder: which version is served from it, and which ones were before."""

import secrets
from pathlib import Path

from model.files import write_text
from model.store.places import HISTORY, LIVE, StoreError, address, folder_of, told, trimmed

KEPT = 10  # versions that one can go back through


def live(store: str) -> str | None:
    """The run that the link names; None without such a link, and in an object store."""
    folder = folder_of(store)
    link = folder / LIVE if folder is not None else None
    return link.readlink().name if link is not None and link.is_symlink() else None


def set_live(store: str, run_id: str) -> None:
    """Make the link name a run, without a moment in which it is absent; :func:`go_live_back` takes that back.

    Raises:
        StoreError: where the store is no folder, or something else than a link is called ``live`` there.
    """
    address(store, run_id)
    folder, before = _folder(store), live(store)
    if before != run_id:
        _point(store, folder, run_id, [*history(store), *([before] if before else [])])


def go_live_back(store: str) -> str:
    """Make the link name the run that was live before; that run.

    Raises:
        StoreError: where none was.
    """
    before = history(store)
    if not before:
        raise StoreError(
            f"{trimmed(store)}: no version was live before {live(store) or 'any other'}; there is no way back"
        )
    _point(store, _folder(store), before[-1], before[:-1])
    return before[-1]


def history(store: str) -> list[str]:
    """The runs that were live before, the latest last; those that have been removed are left out."""
    folder = folder_of(store)
    path = folder / HISTORY if folder is not None else None
    runs = path.read_text(encoding="utf-8").split() if path is not None and path.is_file() else []
    return [run for run in runs if folder is not None and Path(address(str(folder), run)).is_dir()]


def _folder(store: str) -> Path:
    folder = folder_of(store)
    if folder is None:
        raise StoreError(f"{trimmed(store)}: only a folder has a link {LIVE}; a cluster's service has a storageUri")
    if (folder / LIVE).exists() and not (folder / LIVE).is_symlink():
        raise StoreError(f"{folder / LIVE}: is no link, and would be lost; move it away")
    return folder


def _point(store: str, folder: Path, run_id: str, before: list[str]) -> None:
    with told(store, f"move the link {LIVE} of"):
        draft = folder / f".{LIVE}-{secrets.token_hex(4)}"
        draft.symlink_to(run_id)
        draft.replace(folder / LIVE)
        write_text(folder / HISTORY, "".join(f"{run}\n" for run in before[-KEPT:]))
