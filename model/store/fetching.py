"""A published bundle, brought to this machine from wherever it lies."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from model.bundle import Bundle, BundleError
from model.bundle.manifest import MANIFEST
from model.corpus.files import display
from model.files import locate
from model.store.places import BUNDLE, folder_of, told, trimmed


@contextlib.contextmanager
def fetched(place: str) -> Iterator[Bundle]:
    """The bundle in a place, or that of the run which lies there: verified, and here for as long as the body runs.

    Args:
        place: a folder, s3://bucket/prefix/run, pvc://claim/prefix/run or another address.

    Raises:
        BundleError: where what is there is none, or is damaged.
        StoreError: where nothing can be read.
    """
    folder = folder_of(place)
    if folder is not None:
        yield Bundle.load(_inside(folder))
        return
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        made = Path(scratch, BUNDLE)
        made.mkdir()
        with told(display(place), "read a bundle from"):
            files, root = locate(trimmed(place))
            if not files.exists(f"{root}/{MANIFEST}"):
                root = f"{root}/{BUNDLE}"
            files.get_file(f"{root}/{MANIFEST}", str(made / MANIFEST))
            for name in json.loads((made / MANIFEST).read_text("utf-8"))["files"]:
                if Path(name).name != name:
                    raise BundleError(f"{display(place)}: {MANIFEST} lists {name!r}, which lies outside of the bundle")
                files.get_file(f"{root}/{name}", str(made / name))
        yield Bundle.load(made)


def _inside(folder: Path) -> Path:
    """The bundle of a run's folder, or the folder itself."""
    return folder / BUNDLE if (folder / BUNDLE / MANIFEST).is_file() else folder
