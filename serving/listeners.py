"""Where the server listens: for REST and gRPC alike, on IPv4 and IPv6 where the machine has them.

``127.0.0.1`` (or ``localhost``, ``::1``) is this machine alone, ``0.0.0.0`` (or ``::``, ``*``) everyone, each by both
families; another address, or a name, is itself.

    sockets = listen(config, "http_port")
"""

import errno
import os
import socket
from contextlib import ExitStack

from model.config import ConfigError
from serving.config import ServerConfig

HERE, EVERYWHERE = ("127.0.0.1", "::1"), ("0.0.0.0", "::")
SAME = {**dict.fromkeys((*HERE, "localhost"), HERE), **dict.fromkeys((*EVERYWHERE, "*"), EVERYWHERE)}
BACKLOG = 2048  # uvicorn's
# What a machine says that has no such family, or has it switched off.
NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def listen(config: ServerConfig, name: str) -> list[socket.socket]:
    """Take the port ``http_port`` or ``grpc_port``; one listening socket for each family.

    Raises:
        ConfigError: naming the port, or the host.
    """
    port = getattr(config, name)
    missing: OSError | None = None
    with ExitStack() as taken:
        sockets = []
        for family, address in addresses(config.host):
            try:
                made = socket.create_server((address, port), family=family, backlog=BACKLOG)
                sockets.append(taken.enter_context(made))
            except OSError as error:
                if error.errno not in NO_FAMILY:
                    raise refused(config, name, os.strerror(error.errno or 0)) from None
                missing = error
        taken.pop_all()
    if not sockets:
        why = os.strerror(missing.errno or 0) if missing else "it has no address"
        raise ConfigError(f"host {config.host} cannot be listened on ({why}); 127.0.0.1 is this machine alone")
    return sockets


def check_ports(config: ServerConfig) -> None:
    """Find out before the model is loaded whether both ports are free; raises as :func:`listen`."""
    for name in ("http_port", "grpc_port"):
        for found in listen(config, name):
            found.close()


def grpc_addresses(config: ServerConfig) -> list[str]:
    """The same addresses as gRPC writes them; those that the machine has."""
    found = []
    for taken in listen(config, "grpc_port"):
        host, port = taken.getsockname()[:2]
        found.append(f"[{host}]:{port}" if taken.family == socket.AF_INET6 else f"{host}:{port}")
        taken.close()
    # For gRPC this one is both families, and a second socket for either would find the port taken.
    return [one for one in found if one.startswith("[::]")] or found


def refused(config: ServerConfig, name: str, why: str) -> ConfigError:
    """The error for a port that somebody else has."""
    port = getattr(config, name)
    return ConfigError(f"{name} {port} cannot be used ({why}); choose another with --{name} (make: {name.upper()}=)")


def addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """What a host stands for.

    Raises:
        ConfigError: for a name that nobody knows.
    """
    if host in SAME:
        return list(zip((socket.AF_INET, socket.AF_INET6), SAME[host], strict=True))
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"host {host} is not known here ({error.strerror}); give an address or a name") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
