"""Publishing: a version is there whole or not at all, and is never written twice."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bundle import Bundle, copy_bundle
from model.bundle.manifest import MANIFEST
from model.files import fsync_path, locate, sha256_file
from model.store.places import BUNDLE, CLAIM, StoreError, address, folder_of, told, trimmed, write_result


def publish(
    bundle_dir: str | Path,
    store: str,
    run_id: str,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    reports: Mapping[str, str] | None = None,
    beams: int = 1,
) -> str:
    """Verify a bundle, extend its metrics and provenance, and publish it as the version of a run; its address.

    The same bundle again is no error, so that a step may be tried twice.

    Args:
        reports: texts that are put beside the bundle, by name (RESULTS).
        beams: what the published bundle generates with where a request names none; 1 is greedy.

    Raises:
        BundleError: when the bundle is damaged.
        StoreError: when the run has published other content, or the store cannot be written.
    """
    target = address(store, run_id)
    with tempfile.TemporaryDirectory(prefix="publish-") as scratch:
        folder = folder_of(store)
        if folder is None:
            made = Path(scratch, BUNDLE)
            copy_bundle(bundle_dir, made, metrics, provenance, beams)
            with told(store, f"publish {run_id} in"):
                _upload(made, store, run_id)
        else:
            with told(store, f"publish {run_id} in"):
                _move_in(bundle_dir, folder / run_id, target, metrics, provenance, beams)
    for name, text in (reports or {}).items():
        write_result(store, run_id, name, text)
    return target


def _move_in(
    bundle_dir: str | Path,
    run: Path,
    target: str,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    beams: int,
) -> None:
    """Write the bundle beside its place and rename it into it, which fails where there is one already."""
    run.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{BUNDLE}.partial-", dir=run))
    try:
        copy_bundle(bundle_dir, draft / BUNDLE, metrics, provenance, beams)
        try:
            (draft / BUNDLE).rename(run / BUNDLE)
        except OSError:
            if not (run / BUNDLE).exists():
                raise
            if not (run / BUNDLE / MANIFEST).is_file():
                raise StoreError(f"{target}: something else than a bundle is there, and stays; move it away") from None
            _same((draft / BUNDLE / MANIFEST).read_bytes(), (run / BUNDLE / MANIFEST).read_bytes(), target)
            Bundle.load(run / BUNDLE)
        fsync_path(run)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _upload(made: Path, store: str, run_id: str) -> None:
    files, root = locate(trimmed(store))
    files.invalidate_cache()
    place, target, manifest = f"{root}/{run_id}/{BUNDLE}", address(store, run_id), (made / MANIFEST).read_bytes()
    claim, ours = f"{root}/{run_id}/{CLAIM}", hashlib.sha256(manifest).hexdigest().encode()
    if files.exists(f"{place}/{MANIFEST}"):
        _same(manifest, files.cat_file(f"{place}/{MANIFEST}"), target)
    elif not files.exists(claim):
        try:
            files.pipe_file(claim, ours, mode="create")
        except OSError:  # somebody else was faster; a FileExistsError of S3 itself, SeaweedFS has another one
            if not files.exists(claim):
                raise
    listed = json.loads(manifest)["files"]
    for name in (*sorted(listed), MANIFEST):
        # Once more before every file: a store that ignores the condition of a creation lets two claims through.
        if files.exists(claim) and files.cat_file(claim) != ours:
            raise StoreError(
                f"{target}: another bundle has been, or is being, published as {run_id}, and a version is never "
                f"written twice; publish under another run id, or remove {trimmed(store)}/{run_id} if it is a leftover"
            )
        if not files.exists(f"{place}/{name}"):
            files.put_file(str(made / name), f"{place}/{name}")
    for name in (*listed, MANIFEST):
        with files.open(f"{place}/{name}", "rb") as stream:
            there = hashlib.file_digest(stream, "sha256").hexdigest()
        if there != sha256_file(made / name):
            raise StoreError(
                f"{target}: {name} is not what was written, or is a leftover; publish under another run id"
            )


def _same(ours: bytes, theirs: bytes, target: str) -> None:
    if ours != theirs:
        raise StoreError(
            f"{target}: holds another bundle than this one, and a version is never written twice; "
            "publish under another run id"
        )
