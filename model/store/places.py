"""Where a store lies and what its parts are called; what its file system says, in words; texts beside a bundle."""

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from model import files
from model.errors import ProjectError, reason
from model.files import locate, write_text

BUNDLE, LIVE, CLAIM, HISTORY = "bundle", "live", ".claim", ".history"
RESULTS = ("summary.json", "report.html", "verdict.json")  # what may lie beside a bundle
VOLUMES = Path(files.VOLUMES)
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NO_RUNS = {LIVE, "latest"}  # links of a folder


class StoreError(ProjectError):
    """A store that cannot be used, or refuses; the message says which, what was tried, and what to do."""


def address(store: str, run_id: str) -> str:
    """Where a run's bundle is published: what a server is given (KServe's storageUri).

    Raises:
        StoreError: for a run id that cannot be a folder's name, and for no store.
    """
    if not RUN_ID.fullmatch(run_id) or run_id in NO_RUNS:
        raise StoreError(f"{run_id!r} is no run id; one is of letters, digits and . _ -, such as 20261129T014008Z-demo")
    return f"{trimmed(store)}/{run_id}/{BUNDLE}"


def split(bundle_address: str) -> tuple[str, str] | None:
    """Store and run id of an address that :func:`address` made; None for any other."""
    store, _, rest = bundle_address.rstrip("/").removesuffix(f"/{BUNDLE}").rpartition("/")
    whole = store and bundle_address.rstrip("/").endswith(f"/{BUNDLE}") and RUN_ID.fullmatch(rest)
    return (store, rest) if whole else None


def trimmed(store: str) -> str:
    """The store without a slash at its end.

    Raises:
        StoreError: where nothing names a store.
    """
    kept = store.rstrip("/") if "://" in store else store.removesuffix("/")
    if not kept or ("://" in store and "://" not in kept):
        raise StoreError(f"{store!r} is no store; one is a folder, s3://bucket/prefix or pvc://claim/prefix")
    return kept


def folder_of(store: str) -> Path | None:
    """The store's folder on this machine; None for an object store.

    Raises:
        StoreError: for a claim that is not mounted here.
    """
    scheme, _, rest = trimmed(store).rpartition("://")
    if scheme in ("", "file"):
        return Path(rest)
    if scheme != "pvc":
        return None
    claim, _, prefix = rest.partition("/")
    if not (VOLUMES / claim).is_dir():
        raise StoreError(f"{store}: the claim {claim} is not mounted here at {VOLUMES / claim}; use it in the cluster")
    return VOLUMES / claim / prefix


def readable(store: str) -> str:
    """The store as fsspec finds it from here."""
    folder = folder_of(store)
    return trimmed(store) if folder is None else str(folder)


@contextlib.contextmanager
def told(store: str, doing: str) -> Iterator[None]:
    """What a store's file system raises, each having errors of its own, as a StoreError."""
    try:
        yield
    except ProjectError:
        raise
    except Exception as error:
        hint = "is the folder there, and may you write in it?"
        if "://" in store and not store.startswith(("file://", "pvc://")):
            hint = "is the bucket there, and are its keys and address right (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            hint += "AWS_ENDPOINT_URL, AWS_DEFAULT_REGION)?"
        raise StoreError(f"cannot {doing} the store {store}: {reason(error)}; {hint}") from error


def write_result(store: str, run_id: str, name: str, text: str) -> None:
    """Put a text (one of RESULTS) beside a run's bundle, in the place of an older one."""
    assert name in RESULTS, name
    address(store, run_id)
    with told(store, f"write {run_id}/{name} to"):
        if (folder := folder_of(store)) is not None:
            write_text(folder / run_id / name, text)
        else:
            files, root = locate(trimmed(store))
            files.pipe_file(f"{root}/{run_id}/{name}", text.encode())


def read_result(store: str, run_id: str, name: str) -> str | None:
    """A text beside a run's bundle; None where there is none."""
    address(store, run_id)
    with told(store, f"read {run_id}/{name} from"):
        files, root = locate(readable(store))
        with contextlib.suppress(FileNotFoundError):
            return files.cat_file(f"{root}/{run_id}/{name}").decode()
    return None


def probe(store: str) -> None:
    """Write, read and delete a small object, so that a store that cannot be used is found out before hours of work.

    Raises:
        StoreError: naming the store and which of the three failed.
    """
    name, text = f".probe-{secrets.token_hex(8)}", secrets.token_hex(16).encode()
    folder = folder_of(store)
    with told(store, "write to"):
        files, root = locate(readable(store))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        files.pipe_file(f"{root}/{name}", text)
    with told(store, "read from"):
        if (found := files.cat_file(f"{root}/{name}")) != text:
            raise StoreError(f"{trimmed(store)}: gave back {len(found)} other bytes than were just written")
    with told(store, "delete in"):
        files.rm_file(f"{root}/{name}")
