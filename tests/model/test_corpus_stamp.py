"""A stamp changes with the content of the sources, wherever they lie, and with nothing else."""

import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from model.config import CorpusConfig
from model.corpus import CorpusError
from model.corpus.stamp import stamp

CONFIG = CorpusConfig()


class Quiet(SimpleHTTPRequestHandler):
    """A web server that tells when a file was changed, or nothing of it."""

    tells = True

    def log_message(self, *_):
        pass

    def send_header(self, keyword, value):
        if self.tells or keyword != "Last-Modified":
            super().send_header(keyword, value)


@pytest.fixture
def web(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_known_by_its_content_not_by_its_time(tmp_path, capsys):
    path, test = tmp_path / "a.tsv", tmp_path / "docs.tsv"
    path.write_text("Да.\tYes.\n")
    test.write_text("Нет.\tNo.\n")
    first = stamp([str(path)], [], CONFIG)
    assert len(first) == 16 and f"{path}: {path.stat().st_size} bytes, sha256 " in capsys.readouterr().out
    os.utime(path, (1, 1))
    assert stamp([str(path)], [], CONFIG) == first
    assert stamp([], [], CONFIG.model_copy(update={"sources": [str(path)]})) == first
    assert stamp([str(path)], [str(test)], CONFIG) != first
    path.write_text("Да.\tYea.\n")  # as many bytes
    assert stamp([str(path)], [], CONFIG) != first


def test_a_folder_is_known_by_all_its_files(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "a.tsv").write_text("Да.\tYes.\n")
    first = stamp([str(folder)], [], CONFIG)
    (folder / "README.md").write_text("about")
    assert stamp([str(folder)], [], CONFIG) == first, "what is not read does not count"
    (folder / "test.tsv").write_text("Нет.\tNo.\n")
    assert stamp([str(folder)], [], CONFIG) != first


def test_an_address_is_known_by_what_its_server_tells(tmp_path, web, capsys, monkeypatch):
    path = tmp_path / "a.tsv"
    path.write_text("Да.\tYes.\n")
    os.utime(path, (1_000_000, 1_000_000))
    source = f"{web.replace('//', '//me:s3cret@')}/a.tsv?signature=s3cret"
    first = stamp([source], [], CONFIG)
    assert stamp([source], [], CONFIG) == first
    os.utime(path, (2_000_000, 2_000_000))
    assert stamp([source], [], CONFIG) != first
    said = capsys.readouterr().out
    assert "/a.tsv: 11 bytes, Last-Modified Mon, 12 Jan 1970" in said and "s3cret" not in said
    monkeypatch.setattr(Quiet, "tells", False)
    stamp([source], [], CONFIG)
    assert "read anew, for nothing tells whether it has changed" in capsys.readouterr().out


def test_a_source_that_is_not_there_is_told_before_anything_expensive(tmp_path, web):
    with pytest.raises(CorpusError, match=r"absent\.tsv: no such file"):
        stamp([str(tmp_path / "absent.tsv")], [], CONFIG)
    with pytest.raises(CorpusError, match=r"absent\.tsv: no such file"):
        stamp([f"{web}/absent.tsv"], [], CONFIG)
