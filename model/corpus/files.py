"""Corpus files as byte blocks: local, s3://, http(s):// and hf:// addresses, plain, gzip or zstd.

Everything is streamed in blocks of whole lines, so memory does not depend on the size of a file. Decompression is
done here rather than by the readers of gzip and zstandard because a truncated zstd file reads as a shorter one there;
here it is an error. A file is compressed if its bytes say so, whatever its name or a server says. Credentials and
endpoints come from the environment (AWS_ENDPOINT_URL, HF_ENDPOINT, ...).
"""

import contextlib
import itertools
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

import zstandard

from model.errors import ProjectError, reason
from model.files import locate

HEAD_BYTES = 32  # enough to tell what a file is
BLOCK_BYTES = 1 << 18  # compressed bytes per read; highly compressible input grows about 100-fold
MAX_LINE_BYTES = 1 << 22  # a longer line is not a sentence, and would have to be held in memory
EXTENSIONS = {
    "parallel": (".tsv", ".csv", ".jsonl", ".parquet", ".po", ".mo", ".tmx", ".xliff", ".xlf"),
    "text": (".txt", ".jsonl", ".parquet"),
}
READ = frozenset(itertools.chain(*EXTENSIONS.values()))
WEB = ("http://", "https://")
SILENCE_SECONDS = 60  # a source that sends nothing for so long is given up; a slow one may take its time
_COMPRESSED = re.compile(rb"(?P<gz>\x1f\x8b\x08)|(?P<zst>\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)")
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
# First bytes of what is not text and is not read here: what it is, and what to do.
_OTHER = (
    (rb"BZh[1-9]1AY&SY", "bzip2 data; decompress it with `bzip2 -d`"),
    (rb"\xfd7zXZ\0", "xz data; decompress it with `xz -d`"),
    (rb"\x04\x22\x4d\x18", "lz4 data; decompress it with `lz4 -d`"),
    (
        rb"PK\x03\x04",
        "a ZIP archive, as .xlsx and .docx are, too; unpack it, or save its text as the type it is named",
    ),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "an archive; unpack it"),
    (rb"%PDF-", "a PDF; save its text as plain text in UTF-8"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document; save its text as plain text in UTF-8"),
    (rb"PAR1[\0-\x1f]", "Parquet; name it .parquet"),
    (rb"ARROW1\0\0", "Arrow data; save it as Parquet"),
    (rb"SQLite format 3\0", "an SQLite database; export its rows"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with `git lfs pull`"),
)
_SECRET = re.compile(r"(?<=://)[^/@\s'\"]*@|\?[^\s'\"]+")  # credentials and signed query strings inside messages


class CorpusError(ProjectError, ValueError):
    """A corpus that cannot be used; the message names the file, the line where there is one, and what to do."""


@dataclass
class Meter:
    """How far a file is read: the bytes before the block that its rows are from now, as they are stored."""

    place: int = 0


@dataclass(frozen=True)
class SourceFile:
    """One readable file of a corpus."""

    url: str
    name: str  # for messages and the card: without user names, passwords and signed query strings
    size: int | None = None  # bytes on disk, where the place tells
    role: str = "train"  # "train" or "test", or why it is left out
    other: "SourceFile | None" = None  # the file with the other side, where a pair of files is one source
    domains: "SourceFile | None" = None  # the file beside it that names each row's domain
    meter: Meter = field(default_factory=Meter, compare=False)  # of the reading that goes on

    @property
    def format(self) -> str:
        """Such as ".tsv", be it compressed or not."""
        return extensions(self.name)[0]


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
    """``"a/b.tsv.zst"`` -> ``(".tsv", ".zst")``."""
    name = PurePosixPath(path.lower())
    return (PurePosixPath(name.stem).suffix, name.suffix) if name.suffix in (".gz", ".zst") else (name.suffix, "")


def stem(source: str) -> str:
    """The file's name without its type and compression: the name of a test set."""
    name = PurePosixPath(display(source)).name
    kind, compression = extensions(name)
    return name.removesuffix(compression).removesuffix(kind if kind in READ else "") or "test"


def reach(url: str) -> tuple[Any, str]:
    """The file system of an address or a path, and the path on it."""
    if not url.startswith(WEB):
        return locate(url)
    import aiohttp

    # Its own limit is five minutes for a file's whole; with another encoding, sizes and ranges are not the file's.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    return locate(url, client_kwargs={"timeout": timeout, "headers": {"Accept-Encoding": "identity"}})


@contextlib.contextmanager
def open_bytes(file: SourceFile) -> Iterator[IO[bytes]]:
    """The file's bytes as they are stored, from wherever it is."""
    with reported(file.name):
        filesystem, path = reach(file.url)
        # Over HTTP it is one request read to its end: not every server knows ranges.
        opened = filesystem.open(path, "rb", **({"block_size": 0} if file.url.startswith(WEB) else {}))
    with opened:
        yield opened


def read_blocks(file: SourceFile, *, may_be_empty: bool = False) -> Iterator[bytes]:
    """The decompressed content in blocks of any size."""
    size = 0
    with open_bytes(file) as stream:
        for block in _plain(_chunks(stream, file), file):
            size += len(block)
            yield block
    if not size and not may_be_empty:
        raise CorpusError(f"{file.name}: the file is empty; give a file with text in it")


def line_blocks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that end at a line's end, but for the last, and for lines beyond MAX_LINE_BYTES."""
    rest = bytearray()  # grows in place, however small the blocks are
    for block in blocks:
        end = len(rest) + block.rfind(b"\n") + 1 if b"\n" in block else 0
        rest += block
        if end or len(rest) > MAX_LINE_BYTES:
            end = end or _boundary(rest)
            yield bytes(rest[:end])
            del rest[:end]
    if rest:
        yield bytes(rest)


@contextlib.contextmanager
def seekable(file: SourceFile) -> Iterator[IO[bytes]]:
    """The decompressed content as a seekable file, on disk: Parquet is read from its end."""
    if "://" not in file.url:
        with open_bytes(file) as stream:
            if stream.read(4) == b"PAR1":
                stream.seek(0)
                yield stream
                return
    with tempfile.TemporaryFile() as copy:
        for block in read_blocks(file):
            copy.write(block)
        copy.seek(0)
        yield copy


def _plain(chunks: Iterator[bytes], file: SourceFile, inner: bool = False) -> Iterator[bytes]:
    """The content of compressed bytes, and of what is compressed within them."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    chunks = itertools.chain([head] if head else [], chunks)
    if found := _COMPRESSED.match(head):
        yield from _plain(_decompress(chunks, file, f".{found.lastgroup}"), file, inner=True)
        return
    for magic, what in _OTHER:
        if re.match(magic, head) and not (file.format == ".parquet" and head.startswith(b"PAR1")):
            raise CorpusError(f"{file.name}: {what}")
    compression = extensions(file.name)[1]
    if compression and not inner and _BINARY.search(head):
        raise CorpusError(f"{file.name}: damaged, or not {compression} data; copy or download it again")
    yield from chunks


def _decompress(chunks: Iterator[bytes], file: SourceFile, compression: str) -> Iterator[bytes]:
    """Concatenated members are read through; zlib's and zstandard's objects share eof and unused_data."""
    gzip = compression == ".gz"
    new: Any = (lambda: zlib.decompressobj(wbits=31)) if gzip else zstandard.ZstdDecompressor().decompressobj
    member, inside = new(), False
    try:
        for chunk in chunks:
            data = chunk
            # Tapes and some tools pad with zeros.
            while data := data.lstrip(b"\0") if gzip and not inside else data:
                if block := member.decompress(data):
                    yield block
                inside, data = not member.eof, member.unused_data
                if not inside:
                    member = new()
    except (zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{file.name}: damaged {compression} data: {error}; copy or download it again") from None
    if inside:
        raise CorpusError(f"{file.name}: ends in the middle of its {compression} data; copy or download it again")


def _chunks(stream: IO[bytes], file: SourceFile) -> Iterator[bytes]:
    """Blocks of one size but for the last, however a server sends them: each reading of a file has them alike."""
    file.meter.place = 0
    with reported(file.name):
        while chunk := stream.read(BLOCK_BYTES):
            while len(chunk) < BLOCK_BYTES and (more := stream.read(BLOCK_BYTES - len(chunk))):
                chunk += more
            yield chunk
            file.meter.place += len(chunk)


def _boundary(data: bytes | bytearray) -> int:
    """Where to cut an endless line: after the last space of the second half, or else between two characters."""
    space = data.rfind(b" ", len(data) // 2) + 1
    if space:
        return space
    cut = len(data)
    while cut > len(data) - 4 and data[cut - 1] & 0xC0 == 0x80:
        cut -= 1
    return cut - 1 if data[cut - 1] & 0x80 else cut


@contextlib.contextmanager
def reported(name: str) -> Iterator[None]:
    """Turns whatever a file system raises into one sentence that names the source."""
    try:
        yield
    except CorpusError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause and type(cause).__module__.startswith("aiohttp") and getattr(cause, "status", None) != 404:
            raise CorpusError(_unreadable(name, cause)) from error  # fsspec calls every failure of a first request this
        hint = ", and HF_TOKEN if the data set is private" if name.startswith("hf://") else ""
        raise CorpusError(f"{name}: no such file; check the path or address{hint}") from None
    except PermissionError as error:
        raise CorpusError(
            f"{name}: access denied ({reason(error)}); check its permissions or the credentials"
        ) from None
    except Exception as error:  # every store has exceptions of its own, from aiohttp, botocore, huggingface_hub ...
        raise CorpusError(_unreadable(name, error)) from error


def _unreadable(name: str, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"{name}: nothing came for {SILENCE_SECONDS} seconds; try again, or download it and give the file"
    return f"{name}: cannot be read: {_SECRET.sub('', reason(error))[:300]}"
