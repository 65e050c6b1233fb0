"""What is published: listed, looked up, and the old of it removed."""

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from model.bundle.manifest import MANIFEST
from model.files import locate
from model.store.places import (
    BUNDLE,
    CLAIM,
    NO_RUNS,
    RUN_ID,
    StoreError,
    address,
    folder_of,
    readable,
    told,
    trimmed,
)
from model.store.pointer import live


@dataclass(frozen=True)
class Version:
    """A published bundle, as its manifest tells; ``sha256`` is of the manifest's bytes, and so of the whole bundle."""

    run_id: str
    address: str
    published: datetime | None
    precision: str
    family: str
    metric: str  # the one figure to tell versions apart by
    code_version: str
    sha256: str
    bytes: int
    live: bool = False


def versions(store: str, served: Collection[str] = ()) -> list[Version]:
    """What is published, the newest first; half a publication is none.

    Args:
        served: addresses that a service is known to serve; in a folder, the link ``live`` counts too.
    """
    with told(store, "list"):
        files, root = locate(readable(store))
        files.invalidate_cache()
        try:
            names = [path.rstrip("/").rsplit("/", 1)[-1] for path in files.ls(root, detail=False)]
        except FileNotFoundError:
            if folder_of(store) is None and files.exists(root.split("/")[0]):
                return []
            raise
        runs = [name for name in names if RUN_ID.fullmatch(name) and name not in NO_RUNS]
        with ThreadPoolExecutor(8) as readers:
            found = [each for each in readers.map(lambda run: _read_version(files, root, store, run), runs) if each]
    now = live(store)
    marked = [replace(each, live=each.run_id == now or each.address in served) for each in found]
    begin = datetime.min.replace(tzinfo=UTC)
    return sorted(marked, key=lambda each: (each.published or begin, each.run_id), reverse=True)


def version(store: str, run_id: str) -> Version:
    """A version that is there whole: its manifest, and every file with the bytes that the manifest says.

    Raises:
        StoreError: where it is not; the message lists the newest that are.
    """
    target = address(store, run_id)
    with told(store, f"read {run_id} from"):
        files, root = locate(readable(store))
        files.invalidate_cache()
        found = _read_version(files, root, store, run_id)
    if found is None:
        known = "none"
        with contextlib.suppress(StoreError):  # a folder that is not there either
            known = ", ".join(each.run_id for each in versions(store)[:5]) or known
        raise StoreError(f"{target}: nothing is published there; published in {trimmed(store)}, the newest: {known}")
    with told(store, f"read {run_id} from"):
        place = f"{root}/{run_id}/{BUNDLE}"
        listed = json.loads(files.cat_file(f"{place}/{MANIFEST}"))["files"]
        there = {item["name"].rsplit("/", 1)[-1]: item["size"] for item in files.ls(place, detail=True)}
    broken = sorted(name for name, entry in listed.items() if there.get(name) != entry["bytes"])
    if broken:
        raise StoreError(f"{target}: missing or cut short: {', '.join(broken)}; publish under another run id")
    return found


def prune(store: str, keep: int, spare: Collection[str] = (), dry_run: bool = True) -> list[Version]:
    """Remove all but the newest ``keep`` bundles; those (to be) removed. What lies beside them stays.

    Args:
        keep: how many stay, at least 1; what is live or spared stays besides.
        spare: run ids and addresses that stay, such as what a service serves or can go back to.
        dry_run: only tell.
    """
    if keep < 1:
        raise StoreError(f"keep: must be at least 1, not {keep}")
    doomed = [
        each
        for each in versions(store)[keep:]
        if not each.live and each.run_id not in spare and each.address not in spare
    ]
    for each in () if dry_run else doomed:
        with told(store, f"remove {each.run_id} from"):
            if (folder := folder_of(store)) is not None:
                # Under another name first: who reads meanwhile finds a whole bundle, or none.
                aside = folder / each.run_id / f".{BUNDLE}.removed-{secrets.token_hex(4)}"
                (folder / each.run_id / BUNDLE).rename(aside)
                shutil.rmtree(aside)
            else:
                files, root = locate(trimmed(store))
                place = f"{root}/{each.run_id}"
                files.rm_file(f"{place}/{BUNDLE}/{MANIFEST}")
                for path in files.find(f"{place}/{BUNDLE}"):
                    files.rm_file(path)
                if files.exists(f"{place}/{CLAIM}"):
                    files.rm_file(f"{place}/{CLAIM}")
    return doomed


def headline(metrics: Mapping[str, Any]) -> str:
    """The one figure of a bundle's metrics that tells versions apart: mean chrF of its test sets, or its loss."""
    scores = [score.get("chrf") for score in metrics.get("scores") or () if isinstance(score, Mapping)]
    known = [score for score in scores if isinstance(score, int | float)]
    if known and len(known) == len(scores):
        return f"chrF {sum(known) / len(known):.1f}"
    loss = metrics.get("loss")
    return f"loss {loss:.3f}" if isinstance(loss, int | float) else ""


def _read_version(files: Any, root: str, store: str, run_id: str) -> Version | None:
    path = f"{root}/{run_id}/{BUNDLE}/{MANIFEST}"
    try:
        raw = files.cat_file(path)
        manifest = json.loads(raw)
        published = files.modified(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return None
    return Version(
        run_id=run_id,
        address=address(store, run_id),
        published=published if published.tzinfo else published.replace(tzinfo=UTC),
        precision=str(manifest.get("precision", "")),
        family=str(manifest.get("family", "")),
        metric=headline(manifest.get("metrics") or {}),
        code_version=str((manifest.get("provenance") or {}).get("code_version", "")),
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=sum(entry.get("bytes", 0) for entry in manifest["files"].values()),
    )
