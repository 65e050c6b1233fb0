"""Checkpoints at an address of their own, so that another machine goes on where a killed one stopped.

Below ``checkpoint_uri`` every run has a folder. Its name is a hash of all that decides the run's weights: another
corpus, setting or line of the training's code is another folder, and never finds a stranger's state.

    KEY/latest.json               the newest checkpoints, newest first: folder, step, hash of the manifest
    KEY/step-00000200-1f2e3d4c/   the files of a checkpoint (model/training/saved.py)

A checkpoint goes to a new folder, and ``latest.json``, one small file, names it last: a kill at any moment leaves the
older ones as they were. Two are kept. What arrives is held against its manifest; one that is damaged or half there is
passed over, and the one before it taken. Two runs with the same inputs may share an address: they make the same states,
and the worst that they do to each other is to remove a checkpoint.
"""

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from model.corpus.files import display
from model.files import locate, mounted, replace_directory, sha256_file, write_json
from model.training.checkpoint import CheckpointError
from model.training.saved import KEPT, MANIFEST, UPLOAD, damage, kept, listed, place

LATEST = "latest.json"
CODE = ("training/*.py", "network.py", "fused.py")  # below model/: what turns the same inputs into the same weights
LAST_SECONDS = 600.0  # how long the end of a run waits for its last checkpoint
# So that an address where nobody answers is told in half a minute; boto3 by itself tries for five.
S3 = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}}


def run_key(identity: dict[str, Any]) -> str:
    """The name of a run's folder: a hash of what identifies it, and of the code that trains."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    root = Path(__file__).parents[1]
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


class RemoteCheckpoints:
    """The checkpoints of one run at an fsspec address, in a folder, or in a volume (pvc://claim/prefix).

    Args:
        uri: of all runs, for example ``s3://bucket/checkpoints``.
        identity: of this run, plain JSON.

    Raises:
        CheckpointError: when nothing can be written there and read again.
    """

    def __init__(self, uri: str, identity: dict[str, Any]) -> None:
        uri = mounted(uri)
        address = f"{uri.rstrip('/')}/{run_key(identity)}"
        self.address = display(address)
        self._uploading: threading.Thread | None = None
        try:
            self._store, self._root = locate(address, **(S3 if address.startswith("s3://") else {}))
            self._local = isinstance(self._store, LocalFileSystem)
            self._probe()
            self._kept = self._listed()
        except Exception as error:  # fsspec's file systems have no common base class for their errors
            told = _told(error).replace(uri.partition("://")[2].rpartition("@")[0] or "\0", "...")  # no credentials
            raise CheckpointError(
                f"checkpoint_uri {display(uri)}: no checkpoint can be kept there ({told}); give an address or a folder "
                "that can be written to and read, or leave it empty"
            ) from None

    def fetch(self, out: Path) -> str:
        """Put the newest whole checkpoint among those of ``out``; its address, or "" for none."""
        for entry in list(self._kept):
            try:
                replace_directory(place(out, entry["step"]), partial(self._download, entry))
                return f"{self.address}/{entry['name']}"
            except Exception as error:  # of whichever kind: an older one may be whole
                self._kept.remove(entry)
                name = entry.get("name") if isinstance(entry, dict) else entry
                print(f"warning: checkpoint {name} at {self.address} is passed over: {_told(error)}", file=sys.stderr)
        print(f"no checkpoint of this run at {self.address} to go on from", flush=True)
        return ""

    def save(self, out: Path, step: int, wait: bool = False) -> None:
        """Send the newest checkpoint in ``out``, beside the training that goes on; what cannot be sent is told.

        Args:
            step: its step.
            wait: for its arrival, at the end of a run; otherwise it is left out while the one before is on its way.
        """
        began = time.perf_counter()
        deadline = began + LAST_SECONDS
        if self._uploading is not None:
            self._uploading.join(LAST_SECONDS if wait else 0.0)
            if self._uploading.is_alive():
                print(f"the checkpoint of step {step} stays here: the one before is on its way to {self.address}")
                return
        try:
            staged = stage(out)
        except OSError as error:
            self._warn(step, error)
            return
        stalled = time.perf_counter() - began
        # A daemon: a store that hangs must not hold up the end of the process.
        self._uploading = threading.Thread(target=self._upload, args=(staged, step, stalled), daemon=True)
        self._uploading.start()
        if wait:
            self._uploading.join(max(0.0, deadline - time.perf_counter()))
            if self._uploading.is_alive():
                self._warn(step, TimeoutError(f"not there after {LAST_SECONDS:.0f} s"))

    def _probe(self) -> None:
        name, contents = f"probe-{secrets.token_hex(4)}", b"can this be written and read?"
        self._store.makedirs(self._root, exist_ok=True)
        self._store.pipe_file(f"{self._root}/{name}", contents)
        if self._store.cat_file(f"{self._root}/{name}") != contents:
            raise OSError("what was written is not what is read")
        self._store.rm_file(f"{self._root}/{name}")

    def _listed(self) -> list[Any]:
        try:
            listed = json.loads(self._store.cat_file(f"{self._root}/{LATEST}"))["checkpoints"]
            return listed if isinstance(listed, list) else []
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            print(f"warning: {self.address}/{LATEST} is passed over: {_told(error)}", file=sys.stderr)
            return []

    def _download(self, entry: dict[str, Any], folder: Path) -> None:
        source = f"{self._root}/{entry['name']}"
        self._store.get_file(f"{source}/{MANIFEST}", str(folder / MANIFEST))
        if (found := sha256_file(folder / MANIFEST)) != entry["sha256"]:
            raise ValueError(f"{MANIFEST}: sha256 {found}, {LATEST} says {entry['sha256']}")
        for name in listed(folder):
            self._store.get_file(f"{source}/{name}", str(folder / name))
        if problem := damage(folder):
            raise ValueError(problem)

    def _upload(self, staged: Path, step: int, stalled: float) -> None:
        began, name = time.perf_counter(), f"step-{step:08}-{secrets.token_hex(4)}"
        try:
            sent = 0
            self._store.makedirs(f"{self._root}/{name}", exist_ok=True)
            for path in sorted(staged.iterdir()):
                sent += path.stat().st_size
                self._store.put_file(str(path), f"{self._root}/{name}/{path.name}")
            entry = {"name": name, "step": step, "sha256": sha256_file(staged / MANIFEST)}
            named = [entry, *self._kept][:KEPT]
            if self._local:
                write_json(Path(self._root) / LATEST, {"checkpoints": named})
            else:
                self._store.pipe_file(f"{self._root}/{LATEST}", json.dumps({"checkpoints": named}, indent=1).encode())
            self._kept = named
            print(
                f"checkpoint of step {step} is at {self.address}/{name}: {sent / 1e6:.1f} MB in "
                f"{time.perf_counter() - began:.2f} s, for which training stood still {stalled:.3f} s",
                flush=True,
            )
        except Exception as error:  # whatever happens there, training goes on here
            self._warn(step, error)
        else:
            self._prune()
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _prune(self) -> None:
        """Remove the folders that ``latest.json`` does not name, those of broken uploads too."""
        names = {entry["name"] for entry in self._kept}
        try:
            self._store.invalidate_cache(self._root)
            for path in self._store.ls(self._root, detail=False):
                name = path.rstrip("/").rpartition("/")[2]
                if name.startswith("step-") and name not in names:
                    self._store.rm(path, recursive=True)
        except Exception as error:  # it is tried again at the next save
            print(f"warning: {self.address}: old checkpoints stay ({_told(error)})", file=sys.stderr, flush=True)

    def _warn(self, step: int, error: Exception) -> None:
        print(
            f"warning: the checkpoint of step {step} did not reach {self.address} ({_told(error)}); training goes on, "
            "and its next checkpoint is sent again",
            file=sys.stderr,
            flush=True,
        )


def stage(out: Path) -> Path:
    """A folder with the newest checkpoint's files, which stay when training removes its own."""
    staged = Path(tempfile.mkdtemp(prefix=UPLOAD, dir=out))
    for path in kept(out)[-1].iterdir():
        try:
            os.link(path, staged / path.name)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, staged / path.name)
    return staged


def _told(error: BaseException) -> str:
    """An error in one line; some have no words of their own."""
    lines = str(error).split("\n")
    return lines[0][:300] or type(error).__name__
