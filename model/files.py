"""Where files lie; and files and directories that appear whole or not at all, and are replaced in one step.

What is written is forced to disk before it gets its name: a machine that loses its power keeps the old or the new, and
nothing of no length. Where the kernel can exchange two names (Linux), an older directory is replaced without a moment
in which the name is missing; elsewhere the old one is moved aside first.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
VOLUMES = "/mnt/pvc"  # where steps mount the claims that they are given
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CHAIN = re.compile(r"::[a-z0-9+.-]+://")  # zip://a.tsv::s3://bucket/a.zip, simplecache::https://host/a.tsv


def mounted(place: str) -> str:
    """A place, pvc://claim/prefix as the folder at which a step has the claim."""
    return place.replace("pvc://", f"{VOLUMES}/")


def locate(address: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of an address or a local path, and the path that it knows it by; options are fsspec's.

    fsspec's own reading of addresses knows more than people mean: `::` in a name makes it a chain of file systems (an
    IPv6 host, http://[::1]/a.tsv, too), `~` is looked for at home, and `file:` is cut off.
    """
    import fsspec

    if "://" not in address:
        return fsspec.filesystem("file"), str(Path(address).absolute())
    if _CHAIN.search(address):
        return fsspec.core.url_to_fs(address)
    protocol = address.partition("://")[0]
    kind = fsspec.get_filesystem_class(protocol)
    return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(address), **options), kind._strip_protocol(address)


def fsync_path(path: Path) -> None:
    """Force a file's or directory's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's contents, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place, which may be in a new folder, and rename it into it.

    Raises:
        OSError: with the file's name, on a full disk too; what was there stays as it was and nothing is left behind.
    """
    write_blocks(path, [data])


def write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """As :func:`write_bytes`, block by block; what ``blocks`` raises leaves everything as it was, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        with contextlib.suppress(OSError):  # a folder that may be written and not read
            fsync_path(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write JSON for people and programs, whole or not at all."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def replace_directory(out: Path, fill: Callable[[Path], T]) -> T:
    """Let ``fill`` write into a new directory beside ``out``, then put it in ``out``'s place; what ``fill`` returned.

    When ``fill`` raises, ``out`` stays as it was and nothing is left behind.
    """
    out = Path(os.path.abspath(out))
    if out.is_symlink():
        out = out.resolve()
    if out.exists() and not out.is_dir():
        raise FileExistsError(
            f"{out}: a file is in the way of the directory to be written; remove it or choose another"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it private, and a server often runs as another user
        result = fill(partial)
        for path in (*partial.rglob("*"), partial):
            fsync_path(path)
        _put_in_place(partial, out)
        fsync_path(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename ``partial`` to ``out``; an older ``out`` ends up under the partial's name, to be removed."""
    if not out.exists():
        partial.rename(out)
    elif not _exchange(partial, out):
        aside = partial.with_name(f"{partial.name}-old")
        out.rename(aside)
        partial.rename(out)
        aside.rename(partial)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
