"""What the sources of a corpus are now: the hash of every file's name, size and content, as far as the place tells.

A cache that knows only a source's address takes old text for new. A file on this machine is read and hashed, which is
soon done beside what preparing it takes; a store or a server is asked for its own word on the content, an ETag or a
hash, or else for the time of the last change.
"""

import hashlib
import json
import time
from pathlib import Path

from model.config import CorpusConfig
from model.corpus.files import SourceFile, reach, reported
from model.corpus.sources import TEST, TRAIN, gather
from model.files import sha256_file

DIGITS = 16  # of the hash, in hexadecimal
SHOWN = 10  # files on the terminal
# The names under which file systems tell of a file's content, and then of its last change.
_IDENTITIES = (
    "ETag",
    "etag",
    "blob_id",
    "Content-MD5",
    "Digest",
    "md5Hash",
    "CRC",
    "LastModified",
    "Last-Modified",
    "mtime",
)


def stamp(sources: list[str], tests: list[str], config: CorpusConfig) -> str:
    """The hash; a line for each of the first files is printed.

    Raises:
        CorpusError: when a source is not there, or has nothing to read.
    """
    files, sets = gather(sources or config.sources, tests, config)
    wanted = [file for file in files if file.role in (TRAIN, TEST)]
    wanted += [file for found in sets.values() for file in found if file not in wanted]
    facts = [_facts(side) for file in wanted for side in (file, file.other, file.domains) if side]
    for name, size, identity in facts[:SHOWN]:
        print(f"{name}: {'size unknown' if size is None else f'{size:,} bytes'}, {identity}", flush=True)
    if len(facts) > SHOWN:
        print(f"and {len(facts) - SHOWN:,} more files", flush=True)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:DIGITS]


def _facts(file: SourceFile) -> tuple[str, int | None, str]:
    """Name, size in bytes and content of a file, in words."""
    if "://" not in file.url:
        with reported(file.name):
            local = Path(file.url)
            return file.name, local.stat().st_size, f"sha256 {sha256_file(local)[:DIGITS]}"
    with reported(file.name):
        filesystem, path = reach(file.url)
        info = filesystem.info(path)
    for name in _IDENTITIES:
        if found := str(info.get(name) or "").strip('"'):
            return file.name, info.get("size"), f"{name} {found}"
    # Nothing is told of the content: a stamp of this very second has it read anew.
    return file.name, info.get("size"), f"read anew, for nothing tells whether it has changed ({time.time():.0f})"
