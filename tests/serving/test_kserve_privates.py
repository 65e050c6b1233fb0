"""What serving/ takes from KServe, uvicorn, httptools and gRPC beyond what they promise, each by name.

An upgrade of one of them that changes any of it fails here, with a sentence that says what to look at. The second half
holds that nothing but ``serving/kserve/`` knows these libraries' insides.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httptools
import pytest
import uvicorn
from google.protobuf import unknown_fields
from grpc import aio
from grpc._cython import cygrpc
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState

from serving import logs
from serving.kserve import sdk
from serving.kserve.connection import Connection
from serving.kserve.server import Server

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / "serving"
LIBRARIES = ("kserve", "uvicorn", "httptools", "fastapi")
# What of them is public and used elsewhere: the type of the application that our routes are put into.
ALLOWED = {("rest/__init__.py", "fastapi")}
NAMED_TUPLE = ("_replace", "_asdict", "_fields")  # public; the underscore keeps them from the fields' names


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def http_protocol() -> httptools_impl.HttpToolsProtocol:
    """A connection of uvicorn's, before it is connected."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nothing is sent")

    async def make() -> httptools_impl.HttpToolsProtocol:
        config = uvicorn.Config(app, log_config=None)
        return httptools_impl.HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())

    return asyncio.run(make())


def test_kserve_reads_the_command_line_when_it_is_imported() -> None:
    """Why ``sdk.py`` hides it; it has to be hidden from nothing else."""
    code = "import sys; sys.argv = ['x', '--http_port', 'no number']; import kserve.model_server"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "invalid int value" in done.stderr, "sdk.py need not swap sys.argv any more"
    code = code.replace("kserve.model_server", "serving.kserve.sdk")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_modelserver_has_what_server_py_overrides() -> None:
    start = source(sdk.ModelServer.start)
    for part in ("self._rest_server = RESTServer(", "self.servers.append(self._rest_server.start())"):
        assert part in start, f"ModelServer.start has changed: {part} is gone; see Server._serve"
    assert "asyncio.run(self._serve())" in start, "ModelServer.start no longer runs _serve, which Server overrides"
    assert inspect.iscoroutinefunction(sdk.ModelServer._serve) and parameters(sdk.ModelServer._serve) == ["self"]
    assert parameters(sdk.ModelServer.stop) == ["self", "sig"]
    assert "signal.signal(sig, lambda sig, frame: self.stop(sig))" in source(sdk.ModelServer.register_signal_handler)
    made = sdk.ModelServer(enable_grpc=False)
    assert made.servers == []
    code = ast.parse(textwrap.dedent(source(Server.__init__)))
    (call,) = [node for node in ast.walk(code) if isinstance(node, ast.Call) and node.keywords]
    unknown = {str(keyword.arg) for keyword in call.keywords} - {*parameters(sdk.ModelServer.__init__)}
    assert not unknown, f"ModelServer takes no {', '.join(unknown)} any more"


def test_restserver_makes_the_uvicorn_server_that_is_changed() -> None:
    from kserve.protocol.rest.server import RESTServer

    made = RESTServer("kserve.model_server:app", None, None, 8080)
    assert isinstance(made._server, uvicorn.Server), "RESTServer._server is no uvicorn.Server"
    assert parameters(made._add_middlewares) == ["app"], "RESTServer._add_middlewares has changed"
    assert "self._add_middlewares(app)" in source(RESTServer.create_application)
    assert "self.create_application()" in source(RESTServer.start), "it is called too early to be replaced in _serve"
    assert parameters(made._server.serve) == ["sockets"]


def test_modelserver_runs_what_is_given_to_it_and_wants_a_model_that_is_ready() -> None:
    assert "asyncio.gather(*self.servers)" in source(sdk.ModelServer._serve), "it ends before all its servers do"
    register = source(sdk.ModelServer._register_and_check_atleast_one_model_is_ready)
    for part in ("if model.ready:", "self.register_model(model)"):
        assert part in register, f"ModelServer registers models in another way: {part} is gone"


def test_uvicorn_takes_a_protocol_and_a_handler_of_signals() -> None:
    config = uvicorn.Config("a:b", http=Connection, log_config=None)  # a class is taken as it is
    assert config.http is Connection and "self.http_protocol_class" in source(uvicorn.Config.load)
    server = uvicorn.Server(config)
    assert parameters(server.handle_exit) == ["sig", "frame"]
    assert "self.handle_exit" in source(uvicorn.Server.capture_signals), "uvicorn handles signals in another way"
    assert "signal.raise_signal(" in source(uvicorn.Server.capture_signals), "signals are not repeated at the end"
    assert server.server_state.connections == set()
    assert "connection.shutdown()" in source(uvicorn.Server.shutdown)


@pytest.mark.parametrize(
    "name",
    [
        *("loop", "transport", "flow", "parser", "cycle", "pipeline", "headers"),
        *("timeout_keep_alive", "timeout_keep_alive_task"),
    ],
)
def test_a_connection_has_the_fields_that_ours_reads(name: str) -> None:
    assert name in vars(http_protocol()), f"uvicorn's HttpToolsProtocol has no field {name}; see kserve/connection.py"


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("connection_made", ["transport"]),
        ("connection_lost", ["exc"]),
        ("data_received", ["data"]),
        ("on_message_begin", []),
        ("on_headers_complete", []),
        ("on_body", ["body"]),
        ("on_message_complete", []),
        ("on_response_complete", []),
        ("pause_writing", []),
        ("resume_writing", []),
        ("shutdown", []),
        ("timeout_keep_alive_handler", []),
        ("_start_asgi_task", ["cycle", "app"]),
        ("_unset_keepalive_if_required", []),
    ],
)
def test_a_connection_has_the_methods_that_ours_overrides_or_calls(name: str, takes: list[str]) -> None:
    method = getattr(http_protocol(), name, None)
    assert method is not None, f"uvicorn's HttpToolsProtocol has no method {name}; see kserve/connection.py"
    assert parameters(method) == takes, f"HttpToolsProtocol.{name} takes {parameters(method)} now"


def test_a_cycle_has_the_fields_that_a_connection_reads() -> None:
    made = source(httptools_impl.RequestResponseCycle.__init__)
    for name in ("keep_alive", "response_started", "response_complete"):
        assert f"self.{name} = " in made, f"uvicorn's RequestResponseCycle has no field {name}"
    assert "self.url" in source(httptools_impl.HttpToolsProtocol.on_url)
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ") and httptools_impl.STATUS_LINE[400]


def test_the_parser_stops_where_another_protocol_is_offered() -> None:
    class Calls:
        complete = 0

        def on_headers_complete(self) -> None:
            self.complete += 1

    calls = Calls()
    parser = httptools.HttpRequestParser(calls)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    head = b"POST / HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as raised:
        parser.feed_data(head + b"a")
    assert raised.value.args[0] == len(head), "HttpParserUpgrade no longer says where the head ends"
    assert parser.should_upgrade() and calls.complete == 1
    assert (parser.get_method(), parser.get_http_version()) == (b"POST", "1.1")


def test_grpc_names_its_peers_and_its_errors_as_ours_expect() -> None:
    assert hasattr(cygrpc, logs.GONE), f"gRPC has no {logs.GONE}; see serving/logs.py"
    assert parameters(aio.ServicerContext.add_done_callback) == ["self", "callback"]
    assert callable(aio.ServicerContext.peer)  # what it returns is tested where a peer is shut down


def test_kserves_message_still_loses_doubles() -> None:
    """When it knows them, ``grpc_value`` need not look among the unknown fields."""
    fields = {field.name: field.number for field in sdk.pb.InferParameter.DESCRIPTOR.fields}
    assert fields == {"bool_param": 1, "int64_param": 2, "string_param": 3}
    parameter = sdk.pb.InferParameter.FromString(b"\x21" + bytes(8))
    (found,) = unknown_fields.UnknownFieldSet(parameter)
    assert (found.field_number, found.wire_type, found.data) == (4, 1, 0)


def test_the_silenced_loggers_exist() -> None:
    for name in ("kserve", "kserve.trace", "uvicorn.access", "uvicorn.error"):
        assert name in logging.root.manager.loggerDict, f"nobody logs to {name} any more; see serving/logs.py"


def others() -> Iterator[tuple[str, ast.Module]]:
    """Every file of serving/ outside kserve/."""
    for path in sorted(SERVING.rglob("*.py")):
        if (SERVING / "kserve") not in path.parents:
            yield path.relative_to(SERVING).as_posix(), ast.parse(path.read_text("utf-8"))


def test_no_other_file_imports_these_libraries() -> None:
    found = set()
    for name, tree in others():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(name, module.split(".")[0]) for module in modules if module.split(".")[0] in LIBRARIES}
    assert found == ALLOWED


def test_no_other_file_touches_a_private_attribute_of_anything_but_itself() -> None:
    broken = []
    for name, tree in others():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("serving", "model")):
                broken += [f"{name}:{node.lineno} imports {one.name}" for one in node.names if one.name[0] == "_"]
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
                continue
            if node.attr in NAMED_TUPLE:
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "other")):
                broken.append(f"{name}:{node.lineno} touches {ast.unparse(node)}")
    assert not broken, "\n".join(broken)
