"""A real S3 API over HTTP (moto's), in the environment that fsspec and the services read.

with s3_api("models") as files:
    files.ls("models")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_api(bucket: str) -> Iterator[fsspec.AbstractFileSystem]:
    """A server with a bucket, and fsspec's way to it. All servers of one process are one store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    kind = fsspec.get_filesystem_class("s3")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "test")
            kind.clear_instance_cache()  # of another server
            files = fsspec.filesystem("s3")
            files.makedirs(bucket, exist_ok=True)
            yield files
    finally:
        kind.clear_instance_cache()
        server.stop()
