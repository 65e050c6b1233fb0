"""Serve a bundle; ``--help`` shows every setting and how to call the server.

    python -m serving --bundle runs/latest/bundle

The command line is read before KServe is imported: so ``--help`` is ours, and instant.
"""

from __future__ import annotations

import os
import sys

from serving.config import parse

# gRPC's core writes to the log by itself, what a peer sent included; read when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> int:
    """Run the server; the exit status is 2 when the bundle cannot be served, 1 when the engine fails while it is."""
    server, engine = parse()
    from model.bundle import BundleError
    from model.config import ConfigError
    from serving.errors import ServingError
    from serving.server import serve

    try:
        serve(server, engine)
    except (BundleError, ConfigError, ServingError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
