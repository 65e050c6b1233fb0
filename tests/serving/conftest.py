"""Bundles and one shared server process for the tests of serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.bundle import Bundle
from serving.engine import Engine
from tests.helpers.browser import Browser, find_browser, start_browser
from tests.helpers.bundles import tiny_bundle
from tests.helpers.engines import CONFIG, family_bundle
from tests.helpers.playground import INTRODUCTION
from tests.helpers.servers import TOKEN, Server, start_server

LIMITS = ["--max_prompts", "8", "--max_body_bytes", "65536", "--max_chars", "20000"]


@pytest.fixture(scope="module", params=["seq2seq", "decoder", "ssru"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """For the engine alone: one of each family, and one with a recurrent decoder."""
    return family_bundle(tmp_path_factory.mktemp("bundles"), request.param)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, CONFIG) as running:
        yield running


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle", family="seq2seq")


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose longest generation takes half a second or more, for what must happen while one is running."""
    return tiny_bundle(
        tmp_path_factory.mktemp("slow") / "bundle", family="seq2seq", max_positions=2048, decoder_layers=8, d_ff=512
    )


@pytest.fixture(scope="session")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tiny, tmp_path_factory.mktemp("server") / "log", *LIMITS) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same model behind an access token."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(f"{TOKEN}\n")
    with start_server(tiny, folder / "log", "--token_file", str(folder / "token")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """One keep-alive connection."""
    with httpx.Client(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=1)) as found:
        yield found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not find_browser():
        pytest.skip("NO CHROMIUM on this machine (Debian: apt-get install chromium): the playground is NOT TESTED")
    with start_browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="session")
def introduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that says what it was trained on."""
    folder = tmp_path_factory.mktemp("introduced")
    bundle = tiny_bundle(folder / "bundle", introduction=INTRODUCTION)
    with start_server(bundle, folder / "log") as running:
        yield running
