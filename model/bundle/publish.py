"""Publishing a bundle: to a directory in one step, or to an object store with the manifest last.

A store has no rename over many objects, so the order carries the guarantee: an older manifest is removed first, then
the files go up, then the new manifest. Whoever reads in between finds no bundle, never a mixture of two.

    publish("runs/latest/bundle", "s3://models/prometheus-mini", {"chrf": 57.0}, {"run": "..."})
"""

import tempfile
from pathlib import Path
from typing import Any

from model.bundle.manifest import MANIFEST, BundleError, copy_bundle
from model.files import locate

# What an older bundle may have left, or an upload that broke off without its manifest.
BUNDLE_FILES = ("encoder.onnx", "decoder.onnx", "tokenizer.json", "tokenizer.model")


def publish(bundle_dir: str | Path, target: str, metrics: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Verify a bundle, extend its metrics and provenance, and put it at ``target``; where it now is.

    Args:
        target: a local path, or an fsspec URL (``s3://``, ``gs://``, ...; credentials as fsspec finds them).

    Raises:
        BundleError: when the bundle is damaged, or other things than a bundle lie at ``target``, which stays as it was.
    """
    if "://" not in target or target.startswith("file://"):
        path = target.removeprefix("file://")
        copy_bundle(bundle_dir, path, metrics, provenance)
        return path
    with tempfile.TemporaryDirectory(prefix="publish-") as folder:
        copy = Path(folder) / "bundle"
        manifest = copy_bundle(bundle_dir, copy, metrics, provenance)
        return _upload(copy, sorted(manifest["files"]), target.rstrip("/"))


def _upload(source: Path, names: list[str], target: str) -> str:
    store, root = locate(target)
    store.invalidate_cache()
    present = {path.rsplit("/", 1)[-1] for path in store.find(root, maxdepth=1)} if store.exists(root) else set()
    foreign = sorted(present - {MANIFEST, *names, *BUNDLE_FILES})
    if foreign:
        raise BundleError(
            f"{target}: holds files that are no bundle's: {', '.join(foreign)}; publish to a place of its own"
        )
    if MANIFEST in present:
        store.rm_file(f"{root}/{MANIFEST}")
    store.makedirs(root, exist_ok=True)
    for name in names:
        store.put_file(str(source / name), f"{root}/{name}")
    for name in sorted(present - {MANIFEST, *names}):
        store.rm_file(f"{root}/{name}")
    store.put_file(str(source / MANIFEST), f"{root}/{MANIFEST}")
    return target
