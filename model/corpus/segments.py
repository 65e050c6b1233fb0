"""What files hold, row by row, as it is: sentence pairs, or running text in pieces.

Of running text the end of each file may be held out, to the character: ``corpus.held_out_end`` = 0.1 trains on the
first nine tenths, as nanoGPT does with its character data set, so that losses can be compared.
"""

import io
import itertools
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import zstandard

from model.config import CorpusConfig
from model.corpus import account
from model.corpus.domains import Domains
from model.corpus.files import CorpusError, SourceFile
from model.corpus.reading import read_documents, read_pairs
from model.corpus.rows import Row
from model.corpus.shares import Share, Stretch
from model.corpus.sources import TRAIN
from model.corpus.tally import Tally
from model.text.blocks import cut_blocks
from model.text.cleaning import clean_text


def segments(
    file: SourceFile, config: CorpusConfig, tally: Tally, together: Sequence[SourceFile] = ()
) -> Iterator[Row]:
    """The rows of one file; pieces of running text take no author.

    Args:
        together: the files that it is read with, which are told where it cannot be used.

    Raises:
        CorpusError: when the file cannot be read, or hardly any of its rows can.
    """
    try:
        if config.kind == "parallel":
            domains = Domains(file)
            for one, other, author in read_pairs(file, config.languages, tally):
                yield (one, other), author, domains.of(tally.files[-1]["rows"])
            domains.end(tally.files[-1]["rows"])
        else:
            for blocks in read_documents(file, tally):
                for piece in cut_blocks(map(clean_text, blocks), config.max_chars):
                    yield (piece,), None, None
    except CorpusError as error:
        raise CorpusError(f"{error}{account.read_together(together) if config.kind == 'parallel' else ''}") from None


def batches(
    shares: Sequence[Share],
    config: CorpusConfig,
    tally: Tally,
    size: int,
    work: Path,
    together: Sequence[SourceFile] = (),
) -> Generator[tuple[tuple[dict[str, Any], str], list[Row]]]:
    """The rows of shares, at most ``size`` at a time and of one file; each time with the file's tally and the split.

    The split is "" where it is yet to be decided. ``work`` is a file for text on its way, ``together`` as for
    :func:`segments`. ``tally`` has counted the rows of a share when it has been read, or the iterator is closed.
    """
    for share in shares:
        tally.begin(share.file)
        read = Tally(config.languages)
        stretch = Stretch(share, read)
        if config.held_out_end:
            splits = _stretches(share.file, config, read, work)
        else:
            splits = iter([("", stretch.of(segments(share.file, config, read, together)))])
        try:
            for split, rows in splits:
                while batch := list(itertools.islice(rows, size)):
                    yield (tally.files[-1], split), batch
        finally:
            stretch.count(tally)


def _stretches(file: SourceFile, config: CorpusConfig, tally: Tally, work: Path) -> Iterator[tuple[str, Iterator[Row]]]:
    """The splits of a file of which the end is held out; its text lies on disk until its size is known."""
    total = 0
    with work.open("wb") as stream, zstandard.ZstdCompressor(level=1).stream_writer(stream) as writer:
        for number, blocks in enumerate(read_documents(file, tally)):
            for block in map(clean_text, blocks):
                total += len(block)
                writer.write(orjson.dumps((number, block)) + b"\n")
    ends = [int(total * (1 - config.held_out_end * part)) for part in (1, 0.5, 0)]
    # What is held out comes first: max_rows may stop at the rows to train on.
    for split, begin, end in (("heldout", ends[1], ends[2]), ("valid", ends[0], ends[1]), (TRAIN, 0, ends[0])):
        documents = itertools.groupby(_stretch(work, begin, end), key=lambda entry: entry[0])
        texts = ((text for _, text in entries) for _, entries in documents)
        pieces = itertools.chain.from_iterable(cut_blocks(blocks, config.max_chars) for blocks in texts)
        yield split, (((piece,), None, None) for piece in pieces)
    work.unlink()


def _stretch(work: Path, begin: int, end: int) -> Iterator[tuple[int, str]]:
    """The blocks between two characters of a file, each with the number of its document."""
    place = 0
    with work.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
        for line in io.BufferedReader(reader):
            number, block = orjson.loads(line)
            if place < end and place + len(block) > begin:
                yield number, block[max(0, begin - place) : end - place]
            place += len(block)
