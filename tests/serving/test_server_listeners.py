"""Where the real server listens: this machine alone unless told otherwise, REST and gRPC on the same addresses."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from model.config import ConfigError
from serving.config import ServerConfig
from serving.kserve.sdk import pb
from serving.listeners import addresses, listen
from tests.helpers.servers import ROOT, Server, free_ports, start_server, wait_until


def has(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family) as found:
            found.bind((address, 0))
    except OSError:
        return False
    return True


def outside() -> str | None:
    """An address of this machine that others may know. Nothing is sent to find it."""
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        try:
            found.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = found.getsockname()[0]
    return None if address.startswith(("127.", "0.")) else address


six = pytest.mark.skipif(not has(socket.AF_INET6, "::1"), reason="this machine has no IPv6: its half is NOT tested")


def answers(server: Server, host: str) -> tuple[bool, bool]:
    """Whether REST and gRPC answer at an address of this machine."""
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    host = f"[{host}]" if ":" in host else host
    try:
        rest = httpx.get(f"http://{host}:{server.http_port}/health/live", timeout=30).status_code == 200
    except httpx.ConnectError:
        rest = False
    with grpc.insecure_channel(f"{host}:{server.grpc_port}") as channel:
        try:
            live = GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=30).live
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            live = False
    return rest, live


@six
def test_this_machine_alone_by_both_families(server: Server) -> None:
    assert answers(server, "127.0.0.1") == answers(server, "::1") == (True, True)
    assert answers(server, "localhost") == (True, True)


def test_no_one_else_unless_told(server: Server) -> None:
    address = outside()
    if address is None:
        pytest.skip("this machine has no address but its own: that others are kept out is NOT tested")
    assert answers(server, address) == (False, False)


@six
@pytest.mark.parametrize("host", ["::", "0.0.0.0"])
def test_everyone_by_both_families(tiny: Path, tmp_path: Path, host: str) -> None:
    with start_server(tiny, tmp_path / "log", "--host", host) as server:
        for address in ("127.0.0.1", "::1", outside()):
            if address is not None:
                assert answers(server, address) == (True, True), address


def start(tiny: Path, http_port: int, grpc_port: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "serving", "--bundle", str(tiny), "--threads", "1"]
    command += ["--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@six
@pytest.mark.parametrize("name", ["http_port", "grpc_port"])
def test_a_port_that_only_ipv6_has_taken_is_named(tiny: Path, name: str) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        ports = {"http_port": free_ports(1)[0], "grpc_port": free_ports(1)[0], name: taken.getsockname()[1]}
        out, err = start(tiny, **ports).communicate(timeout=60)
    (line,) = err.splitlines()
    assert line.startswith(f"error: {name} {ports[name]} cannot be used (Address already in use)")
    assert line.endswith(f"choose another with --{name} (make: {name.upper()}=)")
    assert out == ""


@pytest.mark.parametrize("shared", [("http_port",), ("grpc_port",), ("http_port", "grpc_port")], ids=" ".join)
def test_of_two_started_together_one_serves_and_one_says_why_not(tiny: Path, shared: tuple[str, ...]) -> None:
    http, grpc_, *others = free_ports(4)
    first = {"http_port": http, "grpc_port": grpc_}
    second = {**dict(zip(first, others, strict=True)), **{name: first[name] for name in shared}}
    both = [start(tiny, **first), start(tiny, **second)]
    try:
        wait_until(lambda: any(one.poll() is not None for one in both), "one has given up", 60)
        (loser,) = [one for one in both if one.poll() is not None]
        (winner,) = [one for one in both if one is not loser]
        _, err = loser.communicate(timeout=60)
        assert loser.returncode == 2, err
        (line,) = err.splitlines()
        assert any(f"error: {name} {first[name]} cannot be used" in line for name in shared), line
        port = first["http_port"] if winner is both[0] else second["http_port"]

        def ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=30).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, "the other one serves", 60)
    finally:
        for one in both:
            one.terminate()
            one.communicate(timeout=60)


def test_a_certificate_meant_for_others_turns_no_tls_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KServe's SDK reads it from the environment, for REST alone, and moves REST to another port."""
    for name in ("CERT", "KEY"):
        monkeypatch.setenv(f"KSERVE_TLS_{name}_FILE", str(tmp_path / name))
    with start_server(tiny, tmp_path / "log") as server:
        assert answers(server, "127.0.0.1") == (True, True)


NAMESPACE = """
import json, subprocess, sys
from pathlib import Path
from serving.config import ServerConfig
from serving.listeners import grpc_addresses, listen
missing, host = sys.argv[1:]
if missing == "6":
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
if missing == "4":
    subprocess.run(["ip", "address", "delete", "127.0.0.1/8", "dev", "lo"], check=True)
config = ServerConfig(host=host)
sockets = listen(config, "http_port")
print(json.dumps([[found.getsockname()[0] for found in sockets], grpc_addresses(config)]))
"""


@pytest.mark.parametrize(
    ("missing", "host", "rest", "rpc"),
    [
        ("6", "127.0.0.1", {"127.0.0.1"}, ["127.0.0.1:8081"]),
        ("4", "127.0.0.1", {"::1"}, ["[::1]:8081"]),
        ("4", "0.0.0.0", {"0.0.0.0", "::"}, ["[::]:8081"]),
    ],
)
def test_a_machine_that_lacks_a_family_is_served_by_the_other(
    missing: str, host: str, rest: set[str], rpc: list[str]
) -> None:
    command = ["unshare", "--net", sys.executable, "-c", NAMESPACE, missing, host]
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("no unshare or no ip here: machines without IPv4 or IPv6 are NOT tested")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and ("unshare" in done.stderr or "ead-only" in done.stderr or "ermi" in done.stderr):
        pytest.skip(f"no network of our own may be made here, NOT tested: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (set(found[0]), found[1]) == (rest, rpc)


def test_hosts() -> None:
    assert addresses("localhost") == addresses("127.0.0.1") == addresses("::1")
    assert addresses("*") == addresses("::") == addresses("0.0.0.0")
    assert addresses("127.0.0.2") == [(socket.AF_INET, "127.0.0.2")]
    with pytest.raises(ConfigError, match=r"host no-such-host\.invalid is not known here"):
        addresses("no-such-host.invalid")
    with pytest.raises(ConfigError, match=r"host 192\.0\.2\.77 cannot be listened on"):
        listen(ServerConfig(host="192.0.2.77"), "http_port")
