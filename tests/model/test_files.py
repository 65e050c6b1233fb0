"""A name is a name: what fsspec takes for a chain, a home or a protocol is read and written as it stands."""

from __future__ import annotations

import os
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model.bundle import Bundle
from model.corpus.files import read_blocks
from model.corpus.sources import expand
from model.files import locate
from model.store import publish
from tests.helpers.bundles import tiny_bundle

ROWS = "Кот спит.\tThe cat sleeps.\n".encode()
NAMES = ["a::b", "memory::a", "simplecache::a", "file:a", "~", "~root", "s3:a", "*", "[a]", "q?", "{a,b}", "-a", "a#b"]
NAMES += ["python3 (мой)", 'it\'s "$HOME" & 100%', "a\\b", "new\nline", " a ", "👍🏽", "a%20b", "{{$}}"]
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in; what belongs at home would go beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def text_of(source: str) -> bytes:
    (file,) = expand(source, "parallel")
    return b"".join(read_blocks(file))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY | st.sampled_from(NAMES), ANY | st.sampled_from(NAMES))
@example("~", "a::b")
def test_files_and_folders_of_any_name_are_read(here, folder, name):
    folder = "x" if folder in (".", "..") else folder
    os.makedirs(folder, exist_ok=True)
    path = Path(folder, f"x{name}.tsv" if name in (".", "..") else f"{name}.tsv")
    try:
        path.write_bytes(ROWS)
        assert text_of(str(path)) == ROWS  # `Path` drops no character of a name
        if not name.startswith("."):
            assert text_of(folder) == ROWS
    finally:
        path.unlink()
        path.parent.rmdir()
    assert not list((here.parent / "home").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_published_where_it_is_told(bundle, here, name):
    store = f"{name}/{name}"
    assert publish(bundle, store, "run", {"chrf": 1.0}, {}) == f"{store}/run/bundle"
    assert Bundle.load(here / name / name / "run" / "bundle").metrics == {"chrf": 1.0}
    assert [path.name for path in here.iterdir()] == [name] and not list((here.parent / "home").iterdir())


# fsspec's own memory store knows no name with `::`; S3 does (test_store).
@pytest.mark.parametrize("name", [name for name in NAMES if name.strip() == name and "::" not in name])
def test_a_store_takes_names_as_they_are(bundle, name, tmp_path):
    target = f"memory://models/{name}"
    assert publish(bundle, target, "run", {}, {}) == f"{target}/run/bundle"
    store = fsspec.filesystem("memory")
    assert {path.rsplit("/", 1)[-1] for path in store.find(f"/models/{name}")} >= {"bundle.json", "encoder.onnx"}
    store.pipe(f"/texts/{name}.tsv", ROWS)
    assert text_of(f"memory://texts/{name}.tsv") == ROWS


def test_an_address_may_be_of_the_newer_internet(tmp_path):
    (tmp_path / "a::b.tsv").write_bytes(ROWS)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    try:
        server = Server(("::1", 0), partial(Handler, directory=str(tmp_path)))
    except OSError:
        pytest.skip("this machine has no IPv6")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert text_of(f"http://[::1]:{server.server_port}/a::b.tsv") == ROWS
    finally:
        server.shutdown()
        server.server_close()


def test_a_chain_is_still_a_chain():
    fsspec.filesystem("memory").pipe("/texts/plain.tsv", ROWS)
    store, path = locate("simplecache::memory://texts/plain.tsv")
    assert store.cat_file(path) == ROWS
