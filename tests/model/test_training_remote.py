"""Checkpoints at an address: a real process is killed, another goes on elsewhere; what is broken is passed over."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from model.config import from_dict, to_dict
from model.training.checkpoint import CheckpointError
from model.training.loop import train
from model.training.remote import LATEST, RemoteCheckpoints, run_key
from model.training.saved import MANIFEST, kept, place
from tests.helpers.s3 import s3_api
from tests.helpers.training import CONFIG, NETWORK, assert_same, break_off, weights

IDENTITY = {"corpus": ["a"], "training": {"steps": 3}}
FILES = {"state.safetensors": b"weights and moments", "progress.json": b"{}", "model.safetensors": b"best"}


@pytest.fixture
def s3() -> Iterator[str]:
    """An address in a bucket of its own."""
    bucket = f"runs-{uuid.uuid4().hex[:8]}"
    with s3_api(bucket):
        yield f"s3://{bucket}/checkpoints"


def checkpoint(out: Path, step: int) -> Path:
    """A training folder with a checkpoint, as training leaves it, of nonsense with its step as its mark."""
    folder = place(out, step)
    folder.mkdir(parents=True)
    listed = {}
    for name, text in FILES.items():
        data = text + str(step).encode()
        (folder / name).write_bytes(data)
        listed[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps({"files": listed}))
    return out


def contents(out: Path) -> dict[str, bytes]:
    (folder,) = kept(out)
    return {name: (folder / name).read_bytes() for name in FILES}


def saved(uri: str, out: Path, *steps: int, identity: dict = IDENTITY) -> RemoteCheckpoints:
    """So many checkpoints sent, each with its step as its mark."""
    remote = RemoteCheckpoints(uri, identity)
    for step in steps:
        remote.save(checkpoint(out, step), step, wait=True)
    return remote


def test_a_killed_run_goes_on_elsewhere_exactly(parallel: tuple[Path, Path], tmp_path: Path, s3: str) -> None:
    """kill -9 in mid-training; then a new process in a new folder. The weights are those of a run in one piece."""
    config = from_dict(type(CONFIG), {**to_dict(CONFIG), "steps": 200, "save_every": 20, "eval_every": 20})
    settings = [f"--{key}={value}" for key, value in (to_dict(NETWORK) | to_dict(config)).items()]
    command = [sys.executable, "-m", "model.training", *map(str, parallel), f"--checkpoint_uri={s3}", *settings]
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("checkpoint of step "):
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "training.json").exists()

    done = subprocess.run([*command, "--out", str(tmp_path / "new")], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("resuming after step ")]
    assert f" from {s3}/" in line and int(line.split()[3].rstrip(",")) in range(20, 200, 20), line
    assert "training stood still" in done.stdout
    train(parallel[0], *parallel, tmp_path / "whole", NETWORK, config)
    assert_same(weights(tmp_path / "new"), weights(tmp_path / "whole"))
    told = [json.loads((tmp_path / run / "training.json").read_text()) for run in ("new", "whole")]
    for key in ("steps", "best_step", "valid_loss", "train_loss", "train_tokens", "row_counts"):
        assert told[0][key] == told[1][key], key
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith((".", "last"))]


def test_a_run_that_had_ended_is_not_trained_again(parallel: tuple[Path, Path], tmp_path: Path, capfd) -> None:
    """Killed between its last step and whoever takes its results: early stopping included, it does not go on."""
    config = CONFIG.model_copy(update={"patience": 1, "muon_lr": 0.0, "adam_lr": 0.0, "steps": 80})
    uri = str(tmp_path / "kept")
    first = train(parallel[0], *parallel, tmp_path / "a", NETWORK, config, uri)
    capfd.readouterr()
    again = train(parallel[0], *parallel, tmp_path / "b", NETWORK, config, uri)
    assert "resuming after step 16" in capfd.readouterr().out
    assert first == again and again["steps"] == 16
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert (tmp_path / "a" / "curves.jsonl").read_text() == (tmp_path / "b" / "curves.jsonl").read_text()


def test_a_strangers_checkpoint_is_not_taken(s3: str, tmp_path: Path, monkeypatch, capfd) -> None:
    saved(s3, tmp_path / "out", 20)
    for identity in ({**IDENTITY, "corpus": ["b"]}, {**IDENTITY, "training": {"steps": 4}}):
        stranger = RemoteCheckpoints(s3, identity)
        assert stranger.fetch(tmp_path / "other") == "" and not (tmp_path / "other").exists()
        assert f"no checkpoint of this run at {stranger.address}" in capfd.readouterr().out
    # Another line of the training's code is another run too.
    key = run_key(IDENTITY)
    monkeypatch.setattr("model.training.remote.CODE", ("training/*.py",))
    assert run_key(IDENTITY) != key


def test_an_address_of_all_settings_that_matter(parallel: tuple[Path, Path], tmp_path: Path) -> None:
    uri = str(tmp_path / "kept")
    for number, changed in enumerate(({}, {"save_every": 4}, {"seed": 1})):
        train(parallel[0], *parallel, tmp_path / str(number), NETWORK, CONFIG.model_copy(update=changed), uri)
    assert len(list((tmp_path / "kept").iterdir())) == 2  # how often it is saved changes no weight


def test_what_is_damaged_is_passed_over(s3: str, tmp_path: Path, capfd) -> None:
    """A byte changed, a file missing, a list that is none: the older one is taken, or none; never half of one."""
    remote = saved(s3, tmp_path / "out", 20, 40)
    store, root = fsspec.filesystem("s3"), remote.address.removeprefix("s3://")
    older, newest = sorted(path for path in store.ls(root, refresh=True) if "/step-" in path)
    store.pipe_file(f"{newest}/state.safetensors", b"weights and momentz40")
    assert RemoteCheckpoints(s3, IDENTITY).fetch(tmp_path / "a") == f"s3://{older}"
    assert contents(tmp_path / "a") == {name: data + b"20" for name, data in FILES.items()}
    assert f"{newest.rpartition('/')[2]} at {remote.address} is passed over: state.safetensors: sha256" in (
        capfd.readouterr().err
    )
    store.rm_file(f"{older}/progress.json")
    broken = RemoteCheckpoints(s3, IDENTITY)
    (tmp_path / "b").mkdir()
    assert broken.fetch(tmp_path / "b") == "" and not [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    broken.save(checkpoint(tmp_path / "out", 60), 60, wait=True)  # and from here on all is well again
    assert RemoteCheckpoints(s3, IDENTITY).fetch(tmp_path / "c").startswith(f"{remote.address}/step-00000060-")
    assert [path.rpartition("/")[2][:13] for path in store.ls(root, refresh=True)] == [LATEST, "step-00000060"]
    for nonsense in (b"", b"[]", b'{"checkpoints": 3}', b'{"checkpoints": [{"name": "../x"}]}', b"\xff"):
        store.pipe_file(f"{root}/{LATEST}", nonsense)
        assert RemoteCheckpoints(s3, IDENTITY).fetch(tmp_path / "d") == ""


def test_an_upload_that_breaks_off_leaves_what_was_there(s3: str, tmp_path: Path, monkeypatch, capfd) -> None:
    """The store fails in the middle of an upload; training hears of it, and the next one arrives."""
    remote = saved(s3, tmp_path / "out", 20)
    put = remote._store.put_file

    def fails(path, *rest, **more):
        if path.endswith("progress.json"):
            return put(path, *rest, **more)
        raise ConnectionResetError("the store is gone")

    with monkeypatch.context() as broken:
        broken.setattr(remote._store, "put_file", fails)
        remote.save(checkpoint(tmp_path / "out", 40), 40, wait=True)
    assert "checkpoint of step 40 did not reach" in (told := capfd.readouterr().err) and "the store is gone" in told
    assert "/step-00000020-" in RemoteCheckpoints(s3, IDENTITY).fetch(tmp_path / "a")
    remote.save(checkpoint(tmp_path / "out", 60), 60, wait=True)
    assert "/step-00000060-" in RemoteCheckpoints(s3, IDENTITY).fetch(tmp_path / "b")
    names = fsspec.filesystem("s3").ls(remote.address.removeprefix("s3://"), refresh=True)
    assert [name.rpartition("/")[2][:13] for name in names] == [LATEST, "step-00000020", "step-00000060"]
    assert not list((tmp_path / "out").glob(".upload-*"))


def test_training_does_not_wait_for_a_slow_store(tmp_path: Path, monkeypatch, capfd) -> None:
    """While one checkpoint is on its way the next stays; what is on its way outlives what training removes."""
    remote = RemoteCheckpoints(str(tmp_path / "kept"), IDENTITY)
    go, put = threading.Event(), type(remote._store).put_file

    def waits(self, *arguments, **more):
        assert go.wait(60)
        return put(self, *arguments, **more)

    monkeypatch.setattr(type(remote._store), "put_file", waits)
    out = checkpoint(tmp_path / "out", 20)
    remote.save(out, 20)
    shutil.rmtree(place(out, 20))
    remote.save(checkpoint(out, 40), 40)
    assert "checkpoint of step 40 stays here" in capfd.readouterr().out
    go.set()
    remote.save(checkpoint(out, 60), 60, wait=True)
    listed = json.loads((Path(remote.address) / LATEST).read_text())["checkpoints"]
    assert [entry["step"] for entry in listed] == [60, 20]
    (Path(remote.address) / listed[0]["name"] / "progress.json").unlink()
    RemoteCheckpoints(str(tmp_path / "kept"), IDENTITY).fetch(tmp_path / "a")
    assert contents(tmp_path / "a") == {name: data + b"20" for name, data in FILES.items()}


def test_a_checkpoint_that_is_here_comes_first_and_one_elsewhere_where_none_here_is_whole(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    uri, here = str(tmp_path / "kept"), tmp_path / "here"
    train(parallel[0], *parallel, tmp_path / "whole", NETWORK, CONFIG)
    break_off(parallel, here, monkeypatch, 20, uri)
    resume_here = shutil.copytree(here, tmp_path / "again")
    train(parallel[0], *parallel, resume_here, NETWORK, CONFIG, uri)
    assert "resuming after step 16" in (told := capfd.readouterr().out) and " from " not in told
    for folder in kept(here):
        (folder / "state.safetensors").write_bytes(b"")
    for entry in (tmp_path / "kept").glob("*/step-00000024-*"):  # of the run that came to its end
        (entry / "progress.json").unlink()
    train(parallel[0], *parallel, here, NETWORK, CONFIG, uri)
    out, err = capfd.readouterr()
    assert "resuming after step 16, " in out and f" from {uri}/" in out
    assert err.count("is damaged, and passed over: state.safetensors: 0 bytes") == 2 and "no whole checkpoint" in err
    assert_same(weights(here), weights(tmp_path / "whole"))


def test_an_address_of_no_use_is_told_at_the_start(
    parallel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        (tmp_path / "file").write_text("in the way")
        began = time.monotonic()
        for uri in ("s3://user:secret@runs/x", f"{tmp_path}/file", "nosuch://place"):
            with pytest.raises(CheckpointError, match="no checkpoint can be kept there") as caught:
                train(parallel[0], *parallel, tmp_path / "out", NETWORK, CONFIG, uri)
            assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
        assert time.monotonic() - began < 120  # boto3 by itself would try for minutes
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_volume_is_the_folder_that_it_is_mounted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.files.VOLUMES", str(tmp_path))
    assert RemoteCheckpoints("pvc://claim/runs", IDENTITY).address == f"{tmp_path}/claim/runs/{run_key(IDENTITY)}"
