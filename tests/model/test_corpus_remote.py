"""Sources that are not on this disk: S3 (moto's server over real HTTP), a plain HTTP server, and a small Hub.

Each corpus is prepared by the command itself in a process of its own, because addresses and credentials come from
the environment, which the libraries read when they are imported.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pyarrow
import pytest
import zstandard
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from model.config import CorpusConfig
from model.corpus import CorpusError, prepare_corpus, read_card, read_split
from model.errors import reason

ROOT = Path(__file__).parents[2]
LINES = [f"Предложение номер {n}.\tSentence number {n}.\n" for n in range(60)]


def part(number: int) -> bytes:
    return "".join(LINES[number * 20 : number * 20 + 20]).encode()


def parquet_part(number: int) -> bytes:
    rows = [line.rstrip("\n").split("\t") for line in LINES[number * 20 : number * 20 + 20]]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"translation": [{"ru": ru, "en": en} for ru, en in rows]}), sink)
    return sink.getvalue().to_pybytes()


KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
FILES = {
    "data/a.tsv.zst": zstandard.ZstdCompressor().compress(part(0)),
    "data/b.tsv.gz": gzip.compress(part(1)),
    "data/deep/c.parquet": parquet_part(2),
    "README.md": b"# not data",
}


def prepare(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HF_")) and "proxy" not in k.lower()}
    command = [sys.executable, "-m", "model.corpus", "--out", str(out), "--valid_rows", "2", "--heldout_rows", "3"]
    command += ["--leaks", "exact", "--duplicates", "exact"]  # the lines differ in a number only
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sentences(corpus: Path) -> list[str]:
    rows = [row for split in ("train", "valid", "heldout") for row in read_split(corpus, split)]
    return sorted(f"{row['ru']}\t{row['en']}\n" for row in rows)


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        **KEYS,
    )
    client.create_bucket(Bucket="texts")
    for name, data in FILES.items():
        client.put_object(Bucket="texts", Key=name, Body=data)
    yield environment
    server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Any]], str]]:
    """Starts HTTP servers that answer with bytes, with JSON, or with a status, and support ranges for bytes."""
    servers = []

    def start(answers: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                answer = answers.get(path, 404)
                status, body, headers = 200, b"", {}
                if isinstance(answer, int):
                    status, headers = answer, {"X-Error-Code": "RepoNotFound" if answer == 404 else ""}
                elif isinstance(answer, bytes):
                    body, headers = answer, {"Accept-Ranges": "bytes", "ETag": '"1"', "X-Repo-Commit": "0" * 40}
                    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                        first, last = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
                        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
                        status, body = 206, body[first : last + 1]
                else:
                    body, headers = json.dumps(answer).encode(), {"Content-Type": "application/json"}
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_s3_objects_and_prefixes(tmp_path: Path, s3: dict[str, str]) -> None:
    result = prepare(tmp_path / "all", "s3://texts/data", **s3)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "all") == sorted(LINES)
    assert read_card(tmp_path / "all")["sources"] == ["s3://texts/data"]

    result = prepare(tmp_path / "some", "--test", "s3://texts/data/b.tsv.gz", "s3://texts/data/a.tsv.zst", **s3)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "some") == sorted(LINES[:20])
    assert [row["en"] for row in read_split(tmp_path / "some", "test/b")] == [
        f"Sentence number {n}." for n in range(20, 40)
    ]


def test_s3_errors(tmp_path: Path, s3: dict[str, str]) -> None:
    result = prepare(tmp_path / "out", "s3://texts/none.tsv", **s3)
    assert (result.returncode, result.stderr) == (
        2,
        "error: s3://texts/none.tsv: no such file; check the path or address\n",
    )
    assert not (tmp_path / "out").exists()


def test_http_files(tmp_path: Path, serve: Callable[[dict[str, Any]], str]) -> None:
    address = serve({f"/{name}": data for name, data in FILES.items()} | {"/denied.tsv": 403})
    urls = [f"{address}/data/a.tsv.zst?signature=secret", f"{address}/data/b.tsv.gz", f"{address}/data/deep/c.parquet"]
    result = prepare(tmp_path / "out", *urls)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "out") == sorted(LINES)
    assert "secret" not in (tmp_path / "out" / "corpus.json").read_text("utf-8")

    result = prepare(tmp_path / "none", f"{address}/none.tsv?signature=secret")
    assert (result.returncode, result.stderr) == (
        2,
        f"error: {address}/none.tsv: no such file; check the path or address\n",
    )
    result = prepare(tmp_path / "denied", f"{address}/denied.tsv?signature=secret")
    assert result.returncode == 2
    assert f"error: {address}/denied.tsv: " in result.stderr
    assert "cannot be read: ClientResponseError: 403" in result.stderr
    assert "secret" not in result.stderr
    result = prepare(tmp_path / "refused", "http://127.0.0.1:9/a.tsv")
    assert result.returncode == 2
    assert "error: http://127.0.0.1:9/a.tsv: cannot be read: ClientConnectorError: " in result.stderr


def test_hub_data_sets(tmp_path: Path, serve: Callable[[dict[str, Any]], str]) -> None:
    def tree(folder: str) -> list[dict[str, Any]]:
        files = [
            {"type": "file", "path": n, "size": len(d), "oid": "1" * 40}
            for n, d in FILES.items()
            if n.startswith(folder)
        ]
        folders = [
            {"type": "directory", "path": p, "oid": "2" * 40} for p in ("data", "data/deep") if p.startswith(folder)
        ]
        return files + folders

    hub = "/api/datasets/acme/pairs"
    info = {"id": "acme/pairs", "sha": "0" * 40, "private": False, "tags": [], "downloads": 0, "likes": 0}
    answers: dict[str, Any] = {hub: info, f"{hub}/revision/main": info}
    answers |= {
        f"{hub}/tree/main": tree(""),
        f"{hub}/tree/main/data": tree("data/"),
        f"{hub}/tree/main/data/deep": tree("data/deep/"),
    }
    answers |= {f"/datasets/acme/pairs/resolve/main/{name}": data for name, data in FILES.items()}
    environment = {"HF_ENDPOINT": serve(answers), "HF_HOME": str(tmp_path / "home")}

    result = prepare(tmp_path / "all", "hf://acme/pairs", **environment)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "all") == sorted(LINES)
    result = prepare(tmp_path / "deep", "hf://datasets/acme/pairs/data/deep", **environment)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "deep") == sorted(LINES[40:])
    result = prepare(tmp_path / "none", "hf://acme/none", **environment)
    assert result.returncode == 2
    assert result.stderr == (
        "error: hf://acme/none: no such file; check the path or address, and HF_TOKEN if the data set is private\n"
    )


def test_splits_of_a_prefix(tmp_path: Path, s3: dict[str, str]) -> None:
    client = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], region_name="us-east-1", **KEYS)
    for name, number in (
        ("train-0.tsv", 0),
        ("dev-0.tsv", 1),
        ("test-0.tsv", 2),
        (".cache/a.tsv", 1),
        ("_temporary/a.tsv", 1),
    ):
        client.put_object(Bucket="texts", Key=f"splits/{name}", Body=part(number))
    result = prepare(tmp_path / "out", "s3://texts/splits", **s3)
    assert result.returncode == 0, result.stderr
    assert sentences(tmp_path / "out") == sorted(LINES[:20])
    assert [f"{row['ru']}\t{row['en']}\n" for row in read_split(tmp_path / "out", "test/test")] == LINES[40:]
    card = read_card(tmp_path / "out")
    assert {entry["file"] for entry in card["left_out"]} == {
        f"s3://texts/splits/{name}" for name in (".cache/", "_temporary/", "dev-0.tsv")
    }


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket, str], None]) -> Iterator[str]:
    """Answers every request by hand, one connection each, until it is left."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method = self.rfile.readline().split()[0].decode()
            while self.rfile.readline().strip():
                pass
            with contextlib.suppress(OSError):
                answer(self.connection, method)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


CONFIG = CorpusConfig(valid_rows=2, heldout_rows=3, leaks="exact", duplicates="exact")


def test_a_slow_source_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.corpus.files.SILENCE_SECONDS", 2)

    def slowly(connection: socket.socket, method: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for line in LINES[:30] if method == "GET" else ():
            connection.sendall(line.encode())
            time.sleep(0.1)  # in all more than the limit

    with raw_server(slowly) as address:
        card = prepare_corpus([f"{address}/a.tsv"], [], tmp_path / "out", CONFIG)
    assert card["counts"]["read"] == 30


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LINES[0].encode()])
def test_a_silent_source_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr("model.corpus.files.SILENCE_SECONDS", 1)
    done = threading.Event()

    def silent(connection: socket.socket, method: str) -> None:
        connection.sendall(head)
        done.wait(60)

    with raw_server(silent) as address:
        try:
            with pytest.raises(CorpusError, match=r"a.tsv: nothing came for 1 seconds; try again, or download it"):
                prepare_corpus([f"{address}/a.tsv"], [], tmp_path / "out", CONFIG)
        finally:
            done.set()


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_server_without_ranges(tmp_path: Path, sized: bool, encoded: bool) -> None:
    count = 1000 if encoded else 100_000  # beyond one block of fsspec
    rows = "".join(f"Предложение номер {n}.\tSentence number {n}.\n" for n in range(count)).encode()
    body = gzip.compress(rows) if encoded else rows
    name = "a.tsv.gz" if encoded else "a.tsv"

    def whole(connection: socket.socket, method: str) -> None:
        lines = ["HTTP/1.1 200 OK", "Connection: close", *(["Content-Encoding: gzip"] if encoded else [])]
        lines += [f"Content-Length: {len(body)}"] if sized else []
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + (body if method == "GET" else b""))

    with raw_server(whole) as address:
        card = prepare_corpus([f"{address}/{name}"], [], tmp_path / "out", CONFIG)
    assert card["counts"]["read"] == count


def test_an_address_of_ipv6(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"http://\[::1\]:9/a.tsv: cannot be read: ClientConnectorError"):
        prepare_corpus(["http://[::1]:9/a.tsv"], [], tmp_path / "out", CONFIG)


def test_no_message_ends_after_a_colon() -> None:
    assert reason(TimeoutError()) == "TimeoutError, which gives no reason"
    assert reason(ValueError("two\n lines")) == "ValueError: two lines"
    try:
        raise OSError from ValueError("the cause")
    except OSError as error:
        assert reason(error) == "OSError: the cause"
