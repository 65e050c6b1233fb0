"""The model store: an address per run, never written twice, never half there, whoever publishes at the same time."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from model import store
from model.bundle import Bundle, BundleError, write_bundle
from model.config import NetworkConfig
from model.store import StoreError, places
from model.store.versions import headline
from tests.helpers.s3 import s3_api

FILES = {"decoder.onnx": b"graph bytes" * 1000, "tokenizer.json": b"{}"}
SCORES = {"scores": [{"chrf": 50.0}, {"chrf": 60.0}]}


def made(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    write_bundle(
        folder,
        files=files,
        family="decoder",
        task="text",
        precision="fp32",
        languages=["ru", "en"],
        authors=[],
        config=NetworkConfig(family="decoder"),
        vocab_size=300,
        limits={"max_prompt_tokens": 255, "max_new_tokens": 256},
        tokenizer={"kind": "char", "sha256": "0" * 64},
        graphs={"decoder": "decoder.onnx"},
    )
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return made(tmp_path / "made" / "bundle")


@pytest.fixture(scope="module")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    with s3_api("models") as files:
        yield files


@pytest.fixture(params=["folder", "pvc", "s3", "memory"])
def place(request, tmp_path, monkeypatch) -> str:
    """A store of each kind; the name of one of them is not a plain one."""
    if request.param == "folder":
        return str(tmp_path / "runs (мои) a::b")
    if request.param == "pvc":
        (tmp_path / "pvc" / "claim").mkdir(parents=True)
        monkeypatch.setattr(places, "VOLUMES", tmp_path / "pvc")
        return "pvc://claim/models"
    if request.param == "memory":
        return f"memory://{tmp_path.name}/models"
    request.getfixturevalue("s3")
    return f"s3://models/{tmp_path.name}/sl::m (ру) 100% #1"  # S3 takes any name


def fetched(place: str, run_id: str, out: Path) -> Bundle:
    files, root = places.locate(places.readable(place))
    out.mkdir()
    for path in files.ls(f"{root}/{run_id}/bundle", detail=False):
        files.get_file(path, str(out / Path(path).name))
    return Bundle.load(out)


def test_a_run_is_published_at_its_own_address(place, bundle, tmp_path):
    reports = {"summary.json": '{"status": "ok"}', "report.html": "<p>ё"}
    for _ in range(2):  # a step may be tried twice
        told = store.publish(bundle, place, "run-1", SCORES, {"code_version": "abc"}, reports)
        assert told == store.address(place, "run-1") == f"{place}/run-1/bundle"
    loaded = fetched(place, "run-1", tmp_path / "fetched")
    assert loaded.metrics == SCORES and loaded.provenance == {"code_version": "abc"}
    assert store.read_result(place, "run-1", "report.html") == "<p>ё"
    assert store.read_result(place, "run-1", "verdict.json") is None
    store.publish(bundle, place, "run-2", {"loss": 2.0}, {"code_version": "def"})
    newest, older = store.versions(place, [f"{place}/run-1/bundle"])
    assert (newest.run_id, newest.metric, newest.live) == ("run-2", "loss 2.000", False)
    assert (older.run_id, older.metric, older.live, older.code_version) == ("run-1", "chrF 55.0", True, "abc")
    assert older.sha256 == store.version(place, "run-1").sha256 != newest.sha256
    assert older.bytes == sum(map(len, FILES.values())) and older.published.tzinfo


def test_a_version_is_never_written_twice(place, bundle, tmp_path):
    store.publish(bundle, place, "run-1", {"chrf": 1.0}, {})
    before = store.version(place, "run-1")
    other = made(tmp_path / "other", {**FILES, "decoder.onnx": b"other"})
    for metrics, source in (({"chrf": 2.0}, bundle), ({"chrf": 1.0}, other)):
        with pytest.raises(StoreError, match=r"run-1.*never written twice; publish under another run id"):
            store.publish(source, place, "run-1", metrics, {})
    assert store.version(place, "run-1") == before


def test_two_publishers_at_once_leave_one_whole_version(place, tmp_path):
    """Eight with different bundles under one run id: one wins, and each other is told."""
    sources = [made(tmp_path / f"b{i}", {**FILES, "decoder.onnx": bytes([i]) * 5000}) for i in range(8)]
    start = threading.Barrier(len(sources))

    def attempt(source: Path) -> str:
        start.wait()
        try:
            return store.publish(source, place, "run-1", {}, {})
        except StoreError as error:
            return str(error)

    with ThreadPoolExecutor(len(sources)) as pool:
        told = list(pool.map(attempt, sources))
    assert sorted("never written twice" in each for each in told) == [False] + [True] * 7
    winner = next(source for source, each in zip(sources, told, strict=True) if each == f"{place}/run-1/bundle")
    loaded = fetched(place, "run-1", tmp_path / "fetched")
    assert loaded.graph("decoder").read_bytes() == (winner / "decoder.onnx").read_bytes()


def test_half_a_publication_is_not_listed_and_can_be_ended(place, bundle, monkeypatch, tmp_path):
    """The publisher dies at its last object; the same step again ends what it began, another bundle is refused."""
    folder = places.folder_of(place)
    if folder is not None:
        (folder / "run-1" / ".bundle.partial-x" / "bundle").mkdir(parents=True)
        (folder / "run-1" / ".bundle.partial-x" / "bundle" / "decoder.onnx").write_bytes(b"half")
        (folder / "run-2" / "bundle").mkdir(parents=True)
        (folder / "run-2" / "bundle" / "decoder.onnx").write_bytes(b"half")
    else:
        files, _ = places.locate(place)
        real = files.put_file

        def dies(source, target, *rest, **options):
            if target.endswith("bundle.json"):
                raise OSError("the pod was killed")
            return real(source, target, *rest, **options)

        with monkeypatch.context() as patch:
            patch.setattr(files, "put_file", dies)
            with pytest.raises(StoreError, match=r"cannot publish run-1 in the store .*the pod was killed"):
                store.publish(bundle, place, "run-1", {}, {})
        other = made(tmp_path / "other", {**FILES, "decoder.onnx": b"other"})
        with pytest.raises(StoreError, match="or is being, published as run-1"):
            store.publish(other, place, "run-1", {}, {})
    assert store.versions(place) == []
    with pytest.raises(StoreError, match=r"run-1/bundle: nothing is published there.*the newest: none"):
        store.version(place, "run-1")
    store.publish(bundle, place, "run-1", {}, {})
    assert fetched(place, "run-1", tmp_path / "fetched").metrics == {}


def test_a_store_without_conditions_still_tells_the_loser(tmp_path, monkeypatch):
    """Where a creation with a condition overwrites all the same, who finds another's claim stops."""
    files, place = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/models"
    real = type(files).pipe_file

    def deaf(self, path, value, mode="overwrite", **options):
        if path.endswith(".claim"):
            value = b"somebody else, a moment later"
        return real(self, path, value, **options)

    monkeypatch.setattr(type(files), "pipe_file", deaf)
    with pytest.raises(StoreError, match="another bundle has been, or is being, published as run-1"):
        store.publish(made(tmp_path / "bundle"), place, "run-1", {}, {})
    assert store.versions(place) == []


def test_what_was_cut_short_is_not_whole(place, bundle):
    store.publish(bundle, place, "run-1", {}, {})
    files, root = places.locate(places.readable(place))
    files.pipe_file(f"{root}/run-1/bundle/decoder.onnx", b"gra")
    with pytest.raises(StoreError, match=r"run-1/bundle: missing or cut short: decoder\.onnx"):
        store.version(place, "run-1")
    with pytest.raises((StoreError, BundleError), match="decoder"):
        store.publish(bundle, place, "run-1", {}, {})


def test_a_damaged_bundle_is_not_published(place, bundle):
    (bundle / "decoder.onnx").write_bytes(FILES["decoder.onnx"][::-1])
    with pytest.raises(BundleError, match="hash mismatch"):
        store.publish(bundle, place, "run-1", {}, {})
    files, root = places.locate(places.readable(place))
    assert not files.exists(f"{root}/run-1/bundle") and not files.exists(f"{root}/run-1/.claim")


def test_old_versions_are_removed_but_never_what_is_needed(place, bundle):
    for number in range(5):
        store.publish(bundle, place, f"run-{number}", {}, {"number": number}, {"summary.json": "{}"})
    spared = [store.address(place, "run-0"), "run-1"]
    kept = store.versions(place)
    assert [each.run_id for each in store.prune(place, 2, spared)] == ["run-2"]
    assert store.versions(place) == kept, "a dry run removes nothing"
    assert [each.run_id for each in store.prune(place, 2, spared, dry_run=False)] == ["run-2"]
    assert [each.run_id for each in store.versions(place)] == ["run-4", "run-3", "run-1", "run-0"]
    assert store.read_result(place, "run-2", "summary.json") == "{}"
    with pytest.raises(StoreError, match="keep: must be at least 1"):
        store.prune(place, 0)
    store.publish(bundle, place, "run-2", {}, {"number": "again"})  # nothing of it is left that would refuse it


def test_a_folder_has_a_live_link(bundle, tmp_path):
    place = str(tmp_path / "runs")
    assert store.live(place) is None
    for run in ("run-1", "run-2"):
        store.publish(bundle, place, run, {}, {})
        store.set_live(place, run)
        assert Bundle.load(Path(place, "live", "bundle")).path.resolve() == Path(place, run, "bundle").resolve()
    (tmp_path / "runs" / "latest").symlink_to("run-1")
    assert [(each.run_id, each.live) for each in store.versions(place)] == [("run-2", True), ("run-1", False)]
    assert [each.run_id for each in store.prune(place, 1, dry_run=False)] == ["run-1"]
    store.publish(bundle, place, "run-3", {}, {})
    assert store.prune(place, 1, dry_run=False) == [], "what is live stays, however old"
    with pytest.raises(StoreError, match="only a folder has a link live"):
        store.set_live("s3://models/x", "run-1")
    (tmp_path / "other" / "live").mkdir(parents=True)
    with pytest.raises(StoreError, match="is no link, and would be lost"):
        store.set_live(str(tmp_path / "other"), "run-1")


def test_a_store_is_probed(place):
    store.probe(place)
    files, root = places.locate(places.readable(place))
    assert not files.exists(root) or files.ls(root) == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://nowhere/x", r"cannot write to the store s3://nowhere/x: .*bucket does not exist.*AWS_ENDPOINT_URL"),
        ("pvc://nowhere/x", "the claim nowhere is not mounted here at /mnt/pvc/nowhere"),
        ("/proc/nowhere", r"cannot write to the store /proc/nowhere: .*may you write in it\?"),
        ("klingon://x/y", "cannot write to the store klingon://x/y: .*Protocol not known"),
        ("", "'' is no store"),
        ("s3://", "'s3://' is no store"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_by_name(place, message, s3):
    with pytest.raises(StoreError, match=message):
        store.probe(place)


def test_a_store_that_does_not_answer(monkeypatch, bundle):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    for attempt in (lambda: store.probe("s3://models/x"), lambda: store.versions("s3://models/x")):
        with pytest.raises(StoreError, match=r"s3://models/x: .*Could not connect.*keys and address right"):
            attempt()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_an_empty_store_and_none(place, s3, tmp_path):
    if places.folder_of(place) is None:
        assert store.versions(place) == []
    else:
        with pytest.raises(StoreError, match=r"cannot list the store .*No such file"):
            store.versions(place)
    with pytest.raises(StoreError, match="cannot list the store s3://nowhere/x"):
        store.versions("s3://nowhere/x")


@pytest.mark.parametrize("run_id", ["", "live", "latest", "a/b", "..", ".hidden", "-x", "ж", "a" * 200])
def test_a_run_id_is_a_name(run_id):
    with pytest.raises(StoreError, match="is no run id"):
        store.address("runs", run_id)


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ("s3://models/slm/run-1/bundle", ("s3://models/slm", "run-1")),
        ("pvc://claim/run-1/bundle/", ("pvc://claim", "run-1")),
        ("runs/run-1/bundle", ("runs", "run-1")),
        ("s3://models/prometheus-mini", None),
        ("bundle", None),
        ("", None),
    ],
)
def test_an_address_tells_store_and_run(told, parts):
    assert store.split(told) == parts
    assert parts is None or store.address(*parts) == told.rstrip("/")


@pytest.mark.parametrize(
    ("metrics", "told"),
    [(SCORES, "chrF 55.0"), ({"scores": [{"chrf": None}], "loss": 1.5}, "loss 1.500"), ({}, ""), ({"loss": None}, "")],
)
def test_the_headline(metrics, told):
    assert headline(metrics) == told


def test_a_foreign_folder_in_the_place_is_kept(bundle, tmp_path):
    there = tmp_path / "runs" / "run-1" / "bundle"
    there.mkdir(parents=True)
    (there / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="something else than a bundle is there, and stays"):
        store.publish(bundle, str(tmp_path / "runs"), "run-1", {}, {})
    assert os.listdir(there) == ["thesis.txt"] and os.listdir(there.parent) == ["bundle"]


def test_a_manifest_of_anybody_else_is_no_version(tmp_path):
    for run, text in {"a": "[]", "b": "{", "c": json.dumps({"files": []})}.items():
        (tmp_path / run / "bundle").mkdir(parents=True)
        (tmp_path / run / "bundle" / "bundle.json").write_text(text)
    (tmp_path / "d").write_text("a file")
    assert store.versions(str(tmp_path)) == []
