"""What became of the rows, in words: what was read, what was left out and why, and what changes it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from model.config import CorpusConfig
from model.corpus.files import SourceFile
from model.languages import script_of

SHOWN = 10  # lines of a list on the terminal
LISTED = 100  # entries of what was left out in the card
# What to change where a reason takes too many rows.
_SETTINGS = {
    "too_long": "corpus.max_chars",
    "length_ratio": "corpus.max_length_ratio",
    "script": "corpus.min_script_ratio",
    "swapped": "corpus.languages",
    "language": "corpus.max_foreign",
    "malformed": "corpus.max_malformed",
    "heldout_side": "corpus.heldout_rows",
    "held_out_rest": "corpus.heldout_rows, corpus.valid_rows",
    "near_heldout": "corpus.leaks",
    "near_test_set": "corpus.leaks",
    "same_form": "corpus.duplicates",
    "near_duplicate": "corpus.duplicates",
}

# What each rule leaves out, for people.
RULES = {
    "empty": "A side has no text.",
    "too_long": "A side is too long.",
    "length_ratio": "The sides differ too much in length to be translations of each other.",
    "identical": "Both sides are the same.",
    "script": "Too few letters are in the scripts of the language.",
    "swapped": "Each side is in the other's script.",
    "language": "A side is in another language.",
    "malformed": "The row could not be read.",
    "header": "The row names the columns.",
    "test_set": "A side, or a long line, is in a test set.",
    "near_test_set": "A side is near to one in a test set.",
    "heldout_side": "A side is held out.",
    "near_heldout": "A side is near to one that is held out.",
    "held_out_rest": "It stands at the end of a file, where more is held out than was asked for.",
    "duplicates": "The row is there already.",
    "same_form": "A row with the same normal form is there: case, punctuation, ё and numbers may differ.",
    "near_duplicate": "A row that it is near to is there.",
}
EXAMPLE_CHARS = 200  # of a side


def example(row: Sequence[str], like: str = "") -> dict[str, Any]:
    """A row that a rule took, and what it is like, as the card tells it."""
    sides, other = ([side[:EXAMPLE_CHARS] for side in part] for part in (row, like.split("\t")))
    return {"row": sides, "like": other} if like else {"row": sides}


def setting_of(rule: str) -> str:
    """The name of the setting that changes how many rows a rule takes; empty where there is none."""
    return _SETTINGS.get(rule, "")


def reasons(rejected: Counter[str], duplicates: int = 0) -> str:
    """``script 200 (corpus.min_script_ratio), duplicates 3``: each reason with its rows and the setting behind it."""
    counts = Counter(rejected) + Counter(duplicates=duplicates)
    told = (
        f"{reason} {count:,}" + (f" ({_SETTINGS[reason]})" if reason in _SETTINGS else "")
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
