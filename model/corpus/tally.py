"""What has been read so far: the rows of each file, those among them that are malformed, and what to do about them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model import encoding
from model.corpus.files import CorpusError, SourceFile

EXAMPLES = 5  # malformed rows described in the card
EARLY_ROWS = 1000  # rows after which a hopeless file is given up
SAMPLE_BYTES = 1024  # of lines that are not UTF-8, to tell their encoding by
_COUNTED = ("rows", "malformed", "headers", "nameless")


@dataclass
class Tally:
    """Rows read so far, and those among them that were malformed, over all files and in the current one."""

    languages: Sequence[str] = ()
    rows: int = 0
    malformed: int = 0
    headers: int = 0  # first rows that name the columns
    nameless: int = 0  # rows kept without their author, which was not text
    examples: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    first: str = ""  # the first malformed row of the current file
    undecoded: bytes = b""  # the first lines that are not UTF-8, of the last file that has any

    def begin(self, file: SourceFile) -> None:
        """Start counting a file."""
        self.files.append({"file": file.name, "role": file.role, "rows": 0, "malformed": 0, "rejected": Counter()})
        self.first = ""

    def count(self, rows: int = 1) -> None:
        """Count rows, malformed or not."""
        self.rows += rows
        self.files[-1]["rows"] += rows

    def reject(self, row: int, problem: str) -> None:
        """Count a malformed row; its place is kept for the first few, and for the first of each file."""
        example = encoding.whole(f"{self.files[-1]['file']}:{row}: {problem}")
        self.malformed += 1
        self.files[-1]["malformed"] += 1
        self.first = self.first or example
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def reject_bytes(self, row: int, error: UnicodeDecodeError) -> None:
        """Count a line, or a record's value, that is not UTF-8."""
        if not self.first:
            self.undecoded = b""
        if len(self.undecoded) < SAMPLE_BYTES:
            self.undecoded += bytes(error.object)[:SAMPLE_BYTES] + b"\n"
        self.reject(row, f"bytes that are not UTF-8 ({error.reason} at byte {error.start + 1} of the line)")

    def as_now(self) -> "Tally":
        """A copy of what a file's reading has counted so far, for :meth:`take`."""
        return replace(self, examples=[*self.examples])

    def take(self, read: "Tally", since: "Tally") -> None:
        """Count what the reading of the current file, and of it alone, has counted ``since``."""
        for name in _COUNTED:
            more = getattr(read, name) - getattr(since, name)
            setattr(self, name, getattr(self, name) + more)
            if name in self.files[-1]:
                self.files[-1][name] += more
        self.examples = (self.examples + read.examples[len(since.examples) :])[:EXAMPLES]
        self.undecoded = read.undecoded or self.undecoded

    def join(self, other: "Tally", *, goes_on: bool) -> None:
        """Count what was read after this; ``goes_on`` says that it begins within the file that this has ended in."""
        files = list(other.files)
        if goes_on:
            rest, whole = files.pop(0), self.files[-1]
            whole |= {name: whole[name] + rest[name] for name in ("rows", "malformed", "rejected")}
        self.files += files
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples = (self.examples + other.examples)[:EXAMPLES]
        self.undecoded = other.undecoded or self.undecoded

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` makes a tally of again, fit for JSON."""
        counted = {name: getattr(self, name) for name in _COUNTED}
        return {**counted, "examples": self.examples, "files": self.files, "undecoded": self.undecoded.hex()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], languages: Sequence[str]) -> "Tally":
        """The tally that this tells of."""
        files = [{**file, "rejected": Counter(file["rejected"])} for file in data["files"]]
        return cls(languages, **{**data, "files": files, "undecoded": bytes.fromhex(data["undecoded"])})

    def check_file(self, *, whole: bool) -> None:
        """Stop at a file that is not what its name says: half of its first rows, or all of its rows, are malformed."""
        rows, malformed = self.files[-1]["rows"], self.files[-1]["malformed"]
        if malformed and (malformed == rows if whole else rows >= EARLY_ROWS and 2 * malformed > rows):
            raise CorpusError(
                f"{self.first}\n{malformed:,} of the first {rows:,} rows of this file are malformed"
                f"{self.cure or '; is it the right one?'}"
            )

    def check(self, limit: float) -> None:
        """Stop when more than the share ``limit`` of all rows is malformed."""
        if self.malformed > limit * self.rows:
            raise CorpusError(
                f"{self.examples[0]}\n{self.malformed:,} of {self.rows:,} rows are malformed, more than the "
                f"{limit:.2%} that corpus.max_malformed allows; mend or remove them, or raise the limit{self.cure}"
            )

    @property
    def cure(self) -> str:
        """What to do about the lines that are not UTF-8, if there are any and their encoding is certain enough."""
        name, text = encoding.guess(self.undecoded, self.languages)
        return f"; in {name} it reads {text[:40]!r}: {encoding.cure(name)}" if name else ""
