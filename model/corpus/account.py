"""What became of the rows, in words: what was read, what was left out and why, and what changes it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from model.config import CorpusConfig
from model.corpus.files import SourceFile
from model.corpus_rules import setting_of
from model.languages import script_of

SHOWN = 10  # lines of a list on the terminal
LISTED = 100  # entries of what was left out in the card
EXAMPLE_CHARS = 200  # of a side


def tell(*lines: str) -> None:
    """Print lines about a corpus."""
    for line in lines:
        print(f"corpus: {line}", flush=True)


def example(row: Sequence[str], like: str = "") -> dict[str, Any]:
    """A row that a rule took, and what it is like, as the card tells it."""
    sides, other = ([side[:EXAMPLE_CHARS] for side in part] for part in (row, like.split("\t")))
    return {"row": sides, "like": other} if like else {"row": sides}


def reasons(rejected: Counter[str], duplicates: int = 0) -> str:
    """``script 200 (corpus.min_script_ratio), duplicates 3``: each reason with its rows and the setting behind it."""
    counts = Counter(rejected) + Counter(duplicates=duplicates)
    told = (
        f"{reason} {count:,}" + (f" ({setting})" if (setting := setting_of(reason)) else "")
        for reason, count in counts.most_common()
    )
    return ", ".join(told) or "none"


def too_few(kept: int, read: int, left_out: str, config: CorpusConfig) -> str:
    """What to say of a corpus that has too few rows to be split."""
    pieces = f"; a row of running text is a piece of up to corpus.max_chars = {config.max_chars:,} characters"
    return (
        f"only {kept:,} of {read:,} rows are left, too few to hold some out and train on the rest: give more text"
        f"{pieces if config.kind == 'text' else ''}; left out: {left_out}"
    )


def examples(
    taken: Mapping[str, Sequence[tuple[str, ...]]], rejected: Counter[str], languages: Sequence[str]
) -> list[str]:
    """The first row that each of the commonest reasons took, and the cure where it is known."""
    lines = []
    for reason, _ in rejected.most_common(3):
        if rows := taken.get(reason):
            values = rows[0]
            lines.append(f"the first by {reason}: {' ⇥ '.join(repr(value[:60]) for value in values)}")
            if reason == "swapped":
                one, two = languages
                lines.append(
                    f"column 1 is written in {script_of(values[0])}, column 2 in {script_of(values[1])}, "
                    f"corpus.languages says [{one}, {two}]: swap the columns, or set corpus.languages=[{two}, {one}]"
                )
    return lines


def doubtful(files: Iterable[dict[str, Any]]) -> list[str]:
    """A note for each file of sentence pairs of which most were left out."""
    return [
        f"{file['file']}: {left:,} of its {file['rows']:,} rows are left out: {reasons(counts)}"
        for file in files
        if (left := (counts := Counter(file["rejected"]) + Counter(malformed=file["malformed"])).total())
        and 2 * left > file["rows"]
    ]


def read_together(files: Sequence[SourceFile]) -> str:
    """Where one of several folders' files does not fit, what was to be read with it; or ""."""
    folders = sorted({str(PurePosixPath(file.name).parent) for file in files})
    if len(folders) < 2:
        return ""
    names = ", ".join(folders[:8]) + (", ..." if len(folders) > 8 else "")
    cure = "give the one, or the files, that hold the pair"
    return f"\nfiles from {len(folders)} folders were to be read together: {names}; {cure}"


def left_out(files: Sequence[SourceFile]) -> list[str]:
    """What a folder holds beside the files that are read."""
    lines = [f"left out: {file.name} ({file.role})" for file in files[:SHOWN]]
    return lines + ([f"left out: {len(files) - SHOWN:,} more"] if len(files) > SHOWN else [])


def rows_of(files: Sequence[dict[str, Any]]) -> list[str]:
    """Each file with its role and its rows."""
    lines = [f"{file['role']}: {file['file']}, {file['rows']:,} rows" for file in files[:SHOWN]]
    rest = files[SHOWN:]
    return lines + ([f"and {len(rest):,} more files, {sum(f['rows'] for f in rest):,} rows"] if rest else [])
