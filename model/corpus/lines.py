"""The lines of a text file: numbered, counted, decoded, and rejected one by one where they cannot be."""

from collections.abc import Iterator
from typing import Any

from model import encoding
from model.corpus.files import MAX_LINE_BYTES, CorpusError, SourceFile, line_blocks, read_blocks
from model.corpus.tally import Tally

BOM = b"\xef\xbb\xbf"
ARRAY = "'.[]'"
ONE_A_LINE = "a .jsonl holds one record a line: `jq -c {} OLD > NEW.jsonl`"


def text_blocks(file: SourceFile) -> Iterator[bytes]:
    """The file's bytes without a byte order mark, in blocks of whole lines.

    Raises:
        CorpusError: when they are text in units of two or four bytes.
    """
    for i, block in enumerate(line_blocks(read_blocks(file))):
        if i == 0 and (name := encoding.wide(block[:4096])):
            raise CorpusError(f"{file.name}: the text is in {name}, not UTF-8; {encoding.cure(name)}")
        yield block if i else block.removeprefix(BOM)


def text_lines(file: SourceFile, tally: Tally) -> Iterator[tuple[int, Any]]:
    """Numbered lines without their ends, each counted; undecodable and endless ones are rejected here.

    But for those of a .jsonl that are not UTF-8: they come as bytes, for it may be in what nobody reads.
    """
    number, inside = 0, False  # inside: within a line too long to hold
    for block in text_blocks(file):
        lines = block.removesuffix(b"\n").split(b"\n") if block else []
        if inside or (len(block) >= MAX_LINE_BYTES // 2 and b"\n" not in block):
            if not inside:
                number += 1
                tally.count()
                array = file.format == ".jsonl" and block.lstrip().startswith(b"[")
                hint = f"; {ONE_A_LINE.format(ARRAY)}" if array else ""
                tally.reject(number, f"the line is longer than {MAX_LINE_BYTES >> 21} MiB{hint}")
            inside, lines = b"\n" not in block, lines[1:]
        try:
            numbered: Iterator[tuple[int, Any]] = enumerate([line.decode() for line in lines], number + 1)
        except UnicodeDecodeError:
            jsonl = file.format == ".jsonl"
            numbered = enumerate(lines, number + 1) if jsonl else decode_lines(lines, number, tally)
        for at, line in numbered:
            tally.count()
            yield at, line
        number += len(lines)
        tally.check_file(whole=False)


def decode_lines(lines: list[bytes], number: int, tally: Tally) -> Iterator[tuple[int, str]]:
    """The lines after line ``number`` with their numbers; those that are not UTF-8 are counted and rejected."""
    for at, line in enumerate(lines, number + 1):
        try:
            yield at, encoding.decode(line)
        except UnicodeDecodeError as error:
            tally.count()
            tally.reject_bytes(at, error)
