"""Where files lie: an address or a path as a file system and the path in it.

fsspec's own reading of them knows more than people mean: `::` in a name makes it a chain of file systems (an IPv6 host,
http://[::1]/a.tsv, too), `~` is looked for at home, and `file:` is cut off.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_CHAIN = re.compile(r"::[a-z0-9+.-]+://")  # zip://a.tsv::s3://bucket/a.zip, simplecache::https://host/a.tsv


def locate(address: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of an address or a local path, and the path that it knows it by; options are fsspec's."""
    import fsspec

    if "://" not in address:
        return fsspec.filesystem("file"), str(Path(address).absolute())
    if _CHAIN.search(address):
        return fsspec.core.url_to_fs(address)
    protocol = address.partition("://")[0]
    kind = fsspec.get_filesystem_class(protocol)
    return fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(address), **options), kind._strip_protocol(address)
