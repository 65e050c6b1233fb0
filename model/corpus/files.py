"""Corpus files as byte blocks: local, s3://, http(s):// and hf:// addresses, plain, .gz or .zst.

Everything is streamed in blocks of whole lines, so memory does not depend on the size of a file. Decompression is
done here rather than by the readers of gzip and zstandard because a truncated zstd file reads as a shorter one there;
here it is an error. Credentials and endpoints come from the environment (AWS_ENDPOINT_URL, HF_ENDPOINT, ...).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import zstandard

from model.places import locate

BLOCK_BYTES = 1 << 18  # compressed bytes per read; highly compressible input grows about 100-fold
MAX_LINE_BYTES = 1 << 22  # a longer line is not a sentence, and would have to be held in memory
EXTENSIONS = {"parallel": (".tsv", ".jsonl", ".parquet"), "text": (".txt", ".jsonl", ".parquet")}
COMPRESSIONS = (".gz", ".zst")
_SECRET = re.compile(r"(?<=://)[^/@\s'\"]*@|\?[^\s'\"]+")  # credentials and signed query strings inside messages


class CorpusError(ValueError):
    """A corpus that cannot be used; the message names the file, the line where there is one, and what to do."""


@dataclass(frozen=True)
class SourceFile:
    """One readable file of a corpus."""

    url: str
    name: str  # for messages and the card: without user names, passwords and signed query strings
    format: str  # ".tsv", ".txt", ".jsonl" or ".parquet"
    compression: str  # "", ".gz" or ".zst"
    size: int | None  # bytes on disk, where the place tells


def display(source: str) -> str:
    """The source without what must not be shown: credentials before the host and the query string of signed links."""
    scheme, mark, place = source.partition("://")
    if not mark:
        return source
    if scheme in ("http", "https"):  # elsewhere `?` and `#` are characters of names
        place = re.split("[?#]", place, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def extensions(path: str) -> tuple[str, str]:
    """``"a/b.tsv.zst"`` -> ``(".tsv", ".zst")``; the first is empty when the type is not one we read."""
    name = PurePosixPath(path)
    compression = name.suffix.lower() if name.suffix.lower() in COMPRESSIONS else ""
    kind = PurePosixPath(name.stem).suffix.lower() if compression else name.suffix.lower()
    return (kind if any(kind in known for known in EXTENSIONS.values()) else ""), compression


def stem(source: str) -> str:
    """The file's name without its type and compression: the name of a test set."""
    path = display(source).rstrip("/")
    kind, compression = extensions(path)
    return PurePosixPath(path).name.removesuffix(compression).removesuffix(kind) or "test"


def expand(source: str, kind: str) -> list[SourceFile]:
    """The files behind one source: itself, or every file of a supported type below a directory or ``hf://`` data set.

    Raises:
        CorpusError: when there is nothing there, when it is empty, or when its type does not fit ``kind``.
    """
    url = _canonical(source)
    filesystem, path, info = _stat(source, url)
    if info["type"] == "directory":
        with _reported(source):
            below = dict(sorted(filesystem.find(path, detail=True).items()))
        files = [
            SourceFile(
                filesystem.unstrip_protocol(name),
                display(filesystem.unstrip_protocol(name)),
                *extensions(name),
                item.get("size"),
            )
            for name, item in below.items()
            if extensions(name)[0] in EXTENSIONS[kind]
        ]
        if not files:
            found = ", ".join(sorted({PurePosixPath(name).suffix or "no extension" for name in below})) or "no files"
            raise CorpusError(
                f"{display(source)}: no file of a supported type for kind {kind} ({_supported(kind)}); found: {found}"
            )
        if "://" not in source:
            files = [
                SourceFile(f.url.removeprefix("file://"), f.name.removeprefix("file://"), *extensions(f.url), f.size)
                for f in files
            ]
    else:
        format_, compression = extensions(display(source))
        if format_ not in EXTENSIONS[kind]:
            other = "text" if kind == "parallel" else "parallel"
            hint = f"; this type is read with corpus.kind {other}" if format_ else ""
            raise CorpusError(f"{display(source)}: not a type that kind {kind} reads ({_supported(kind)}){hint}")
        files = [SourceFile(url, display(source), format_, compression, info.get("size"))]
    for file in files:
        if file.size == 0:
            raise CorpusError(f"{file.name}: the file is empty; give a file with text in it")
    return files


@contextlib.contextmanager
def open_bytes(file: SourceFile) -> Iterator[IO[bytes]]:
    """The file's bytes as they are stored, from wherever it is."""
    with _reported(file.name):
        filesystem, path = locate(file.url)
        opened = filesystem.open(path, "rb")
    with opened:
        yield opened


def read_blocks(file: SourceFile, *, may_be_empty: bool = False) -> Iterator[bytes]:
    """The decompressed content in blocks of any size."""
    size = 0
    with open_bytes(file) as stream:
        for block in _decompress(_chunks(stream, file.name), file):
            size += len(block)
            yield block
    if not size and not may_be_empty:
        raise CorpusError(f"{file.name}: the file is empty; give a file with text in it")


def line_blocks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that end at a line's end, but for the last, and for lines beyond MAX_LINE_BYTES."""
    rest = bytearray()  # grows in place, however small the blocks are
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield bytes(rest) + block[:end]
            rest = bytearray(block[end:])
        else:
            rest += block
            if len(rest) > MAX_LINE_BYTES:
                cut = _boundary(rest)
                yield bytes(rest[:cut])
                del rest[:cut]
    if rest:
        yield bytes(rest)


@contextlib.contextmanager
def seekable(file: SourceFile) -> Iterator[IO[bytes]]:
    """The decompressed content as a seekable file, on disk: Parquet is read from its end."""
    if not file.compression and "://" not in file.url:
        with open_bytes(file) as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as copy:
        for block in read_blocks(file):
            copy.write(block)
        copy.seek(0)
        yield copy


def _decompress(chunks: Iterator[bytes], file: SourceFile) -> Iterator[bytes]:
    """Concatenated members are read through; zlib's and zstandard's objects share eof and unused_data."""
    if not file.compression:
        yield from chunks
        return
    gzip = file.compression == ".gz"
    new: Any = (lambda: zlib.decompressobj(wbits=31)) if gzip else zstandard.ZstdDecompressor().decompressobj
    member, inside = new(), False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if block := member.decompress(data):
                    yield block
                inside = not member.eof
                data = b""
                if member.eof:
                    data = member.unused_data
                    data = data.lstrip(b"\0") if gzip else data  # tapes and some tools pad with zeros
                    member = new()
    except (zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{file.name}: damaged, or not {file.compression} data: {error}") from None
    if inside:
        raise CorpusError(f"{file.name}: ends in the middle of its {file.compression} data; copy or download it again")


def _chunks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        with _reported(name):
            chunk = stream.read(BLOCK_BYTES)
        if not chunk:
            return
        yield chunk


def _boundary(data: bytes | bytearray) -> int:
    """Where to cut an endless line: after the last space of the second half, or else between two characters."""
    space = data.rfind(b" ", len(data) // 2) + 1
    if space:
        return space
    cut = len(data)
    while cut > len(data) - 4 and data[cut - 1] & 0xC0 == 0x80:
        cut -= 1
    return cut - 1 if data[cut - 1] & 0x80 else cut


def _canonical(source: str) -> str:
    """``hf://owner/name`` means a data set here, while the Hub's own library takes it for a model."""
    if not source.startswith("hf://"):
        return source
    path = source.removeprefix("hf://").strip("/")
    return "hf://" + (path if path.split("/")[0] in ("datasets", "buckets") else f"datasets/{path}")


def _stat(source: str, url: str) -> tuple[Any, str, dict[str, Any]]:
    with _reported(display(source)):
        filesystem, path = locate(url)
        return filesystem, path, filesystem.info(path)


def _supported(kind: str) -> str:
    return ", ".join(EXTENSIONS[kind]) + ", each also .gz or .zst"


@contextlib.contextmanager
def _reported(name: str) -> Iterator[None]:
    """Turns whatever a file system raises into one sentence that names the source."""
    try:
        yield
    except CorpusError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__
        if type(cause).__module__.startswith("aiohttp") and getattr(cause, "status", None) != 404:
            raise CorpusError(_unreadable(name, cause)) from error  # fsspec calls every failure of a first request this
        hint = ", and HF_TOKEN if the data set is private" if name.startswith("hf://") else ""
        raise CorpusError(f"{name}: no such file; check the path or address{hint}") from None
    except PermissionError as error:
        raise CorpusError(f"{name}: access denied ({error}); check its permissions or the credentials") from None
    except Exception as error:  # every store has exceptions of its own, from aiohttp, botocore, huggingface_hub ...
        raise CorpusError(_unreadable(name, error)) from error


def _unreadable(name: str, error: BaseException | None) -> str:
    reason = _SECRET.sub("", " ".join(str(error).split()))[:300]
    return f"{name}: cannot be read: {type(error).__name__}: {reason}"
