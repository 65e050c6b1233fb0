"""Which files a source stands for: one file, or those of a folder, each in its role.

A folder, an ``s3://`` prefix or an ``hf://`` data set is read by its splits: a file whose name, or the nearest folder
that tells, has the word "test" is a test set, one of "validation" is left out (the corpus holds out rows of its own),
all others are trained on. Hidden files and what systems and tools leave behind are left out. Everything is told.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec

from model.config import CorpusConfig
from model.corpus.domains import add_domains, with_domains
from model.corpus.files import EXTENSIONS, READ, CorpusError, SourceFile, display, extensions, reach, reported, stem
from model.corpus.sides import paired, side_of
from model.languages import primary, scripts

TRAIN, TEST = "train", "test"
VALID = "validation set; the corpus holds out its own"
UNCLEAR = "its name says more than one split"
# The words by which the Hub and the usual test sets name their splits.
_ROLES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "newsdev"), VALID),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "devtest", "newstest", "heldout", "holdout"), TEST),
}
_WORD = re.compile(r"held[-_ ]?out|[^\W\d_]+")
_PART = re.compile(r"[-_.](?!(19|20)\d\d$)\d+([-_.]of[-_.]\d+)?$")  # the number of one file of several, not a year
_JUNK = {"lost+found", "system volume information", "$recycle.bin"}
_PAPERS = {"readme", "license", "licence", "copying", "changelog"}  # what comes with a data set and is not part of it
_PAIR = re.compile(r"(?<![^\W_])(?=([a-z]{2,3})[-_]([a-z]{2,3})(?![^\W_]))")

# How a type that is not read here becomes one that is.
_TABLE = "save it as tab-separated text in UTF-8, one source<TAB>target a line, and name it .tsv"
_PROSE = "save its text as plain text in UTF-8 and name it .txt"
_SUBTITLES = (
    "save it as .srt; the subtitles of one film in two languages, film.ru.srt and film.en.srt, are sentence pairs"
)
_CURES = {
    **dict.fromkeys((".csv", ".xlsx", ".xls", ".ods", ".tab"), _TABLE),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf", ".epub", ".fb2", ".html", ".htm", ".md", ".tex"), _PROSE),
    **dict.fromkeys((".vtt", ".ass", ".sub"), f"save it as .srt; subtitles {_SUBTITLES}"),
    ".srt": f"subtitles {_SUBTITLES}; name it by its language",
    ".pot": "it holds no translations; give the .po files that were made of it",
    ".json": "save it with one record a line: `jq -c '.[]' OLD.json > NEW.jsonl`",
    **dict.fromkeys((".ndjson", ".jl", ".jsonlines"), "name it .jsonl"),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro"), "save it as .parquet"),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), "unpack it and give the folder"),
    ".bz2": "decompress it with `bzip2 -d`",
    ".xz": "decompress it with `xz -d`",
    ".lz4": "decompress it with `lz4 -d`",
}


def expand(source: str, kind: str, languages: Sequence[str] = ()) -> list[SourceFile]:
    """The files behind one source, each with its role: itself, or everything below a folder or ``hf://`` data set.

    Raises:
        CorpusError: when there is nothing there to read, when it is empty, when its type does not fit ``kind``, or when
            it is several data sets of which one must be chosen.
    """
    url = _canonical(source)
    with reported(display(source)):
        filesystem, path = reach(url)
        info = filesystem.info(path)
    if info["type"] == "directory":
        files = _folder(source, url, filesystem, path, kind, languages)
    elif extensions(display(source))[0] == ".zip":
        with reported(display(source)):
            archive = fsspec.filesystem("zip", fo=filesystem.open(path, "rb"))
        files = _folder(source, f"zip://::{_absolute(url)}", archive, "", kind, languages)
    else:
        name = display(source)
        if info["type"] == "other":
            raise CorpusError(f"{name}: a pipe or a socket; save what comes through it and give the file")
        files = [SourceFile(url, name, info.get("size"))]
        if kind == "parallel" and side_of(name, languages):
            files = [_with_other(files[0], filesystem, path, languages)]
        elif files[0].format not in EXTENSIONS[kind]:
            raise CorpusError(
                f"{name}: not a type that kind {kind} reads ({_supported(kind)}){_cure(name, kind, languages)}"
            )
        if kind == "parallel":
            files = [with_domains(files[0], filesystem, path, languages)]
    for file in itertools.chain(files, (file.other for file in files if file.other)):
        if file.role in (TRAIN, TEST) and file.size == 0:
            raise CorpusError(f"{file.name}: the file is empty; give a file with text in it")
    return files


def gather(
    sources: list[str], tests: list[str], config: CorpusConfig
) -> tuple[list[SourceFile], dict[str, list[SourceFile]]]:
    """The files of all sources, and the test sets by name: those given, and those in the sources' folders.

    Raises:
        CorpusError: as :func:`expand`, where a source has no file to train on, and where two test sets have one name.
    """
    sets = dict[str, list[SourceFile]]()
    for test in tests:
        name, members = _set_name(test, config), _testing(test, config)
        if name == "heldout":
            raise CorpusError(f"{display(test)}: the name heldout is taken by the corpus's own split; rename the file")
        if sets.get(name) == members and members[0].other:
            continue  # both sides of a pair were named
        if name in sets:
            raise CorpusError(f"{display(test)}: two test sets have the name {name}; rename one of the files")
        sets[name] = members
    given = {_place(file) for files in sets.values() for file in files}
    files = []
    for source in sources:
        found: dict[str, list[SourceFile]] = {}
        for file in _training(source, config):
            if _place(file) not in given and not (file.other and file in files):
                files.append(file)
                if file.role == TEST:
                    found.setdefault(_test_name(file, source, config), []).append(file)
        for name, members in found.items():
            free = name if name not in sets and name != "heldout" else f"{stem(source)}-{name}"
            if free in sets:
                raise CorpusError(f"{members[0].name}: two test sets have the name {free}; rename the file")
            sets[free] = members
    return files, sets


def _training(source: str, config: CorpusConfig) -> list[SourceFile]:
    files = expand(source, config.kind, config.languages)
    if not any(file.role == TRAIN for file in files):
        names = [f"{file.name} ({file.role})" for file in files if file.role in (TEST, VALID, UNCLEAR)]
        raise CorpusError(
            f"{display(source)}: no file to train on, by their names: {', '.join(names[:5])}; name the files themselves"
        )
    return files


def _testing(source: str, config: CorpusConfig) -> list[SourceFile]:
    """Of a folder with splits the test files, or else those to validate on."""
    files = expand(source, config.kind, config.languages)
    chosen = next(found for role in (TEST, VALID, TRAIN, UNCLEAR) if (found := [f for f in files if f.role == role]))
    return [dataclasses.replace(file, role=TEST) for file in chosen]


def _test_name(file: SourceFile, source: str, config: CorpusConfig) -> str:
    """The name of the test set that a folder's file belongs to; files that are numbers or parts are one set."""
    *folders, name = _relative(file.name, display(source)).split("/")
    own = _PART.sub("", _set_name(name, config))
    if _role(own) == TEST or not (own.isdigit() or _plain(own.lower()) in ("part", "data", "shard", "chunk")):
        return own
    return next(word for word in reversed(folders) if _role(word) == TEST)


def _place(file: SourceFile) -> str:
    return file.url if "://" in file.url else os.path.realpath(file.url)


def _folder(source: str, url: str, filesystem: Any, path: str, kind: str, languages: Sequence[str]) -> list[SourceFile]:
    root = display(source).rstrip("/")
    files = []
    with reported(root):
        below = sorted(_below(filesystem, path))
    for relative, size, problem in below:
        place = f"{path.rstrip('/')}/{relative}"
        if url.startswith("zip://"):
            place = url.replace("zip://", f"zip://{relative}", 1)
        elif "://" in url:
            place = filesystem.unstrip_protocol(place)
        side = side_of(relative, languages) if kind == "parallel" else None
        read = side or extensions(relative)[0] in EXTENSIONS[kind]
        role = problem or (_path_role(side[1] if side else relative) if read else "not a type that is read")
        files.append(SourceFile(place, f"{root}/{relative}", size, role))
    if kind == "parallel":
        files = add_domains(paired(files, languages, (TRAIN, TEST, VALID, UNCLEAR)), languages)
    _one_data_set(root, [f for f in files if f.role in (TRAIN, TEST, VALID)], kind, languages)
    if not any(file.role in (TRAIN, TEST, VALID, UNCLEAR) for file in files):
        names = [_relative(file.name, root) for file in files]
        found = ", ".join(sorted({extensions(name)[0] or "no extension" for name in names})) or "no files"
        cure = next((cure for name in names if (cure := _cure(name, kind, languages))), "")
        raise CorpusError(
            f"{root}: no file of a supported type for kind {kind} ({_supported(kind)}); found: {found}{cure}"
        )
    return files


def _with_other(file: SourceFile, filesystem: Any, path: str, languages: Sequence[str]) -> SourceFile:
    """One side of a pair with the other one, which lies beside it; the first language's leads."""
    folder, _, own = path.rpartition("/")
    index, base = side_of(own, languages) or (0, own)
    with reported(file.name):
        beside = filesystem.ls(folder or "/", detail=True)
    for item in beside:
        name = item["name"].rpartition("/")[2]
        if side_of(name, languages) == (1 - index, base):
            shown = file.name.removesuffix(own) + name
            other = SourceFile(file.url.removesuffix(own) + name, shown, item.get("size"))
            first, second = (other, file) if index else (file, other)
            return dataclasses.replace(first, other=second)
    one, two = languages
    raise CorpusError(
        f"{file.name}: the text of one language, and no file beside it has the other's; of a pair the names differ in "
        f"the language alone, as train.{one} and train.{two}"
    )


def _set_name(source: str, config: CorpusConfig) -> str:
    """The name of a test set: its file's, without the language where it is one of two sides."""
    side = side_of(display(source), config.languages) if config.kind == "parallel" else None
    return stem(side[1] if side else source)


def _absolute(url: str) -> str:
    """An address that may stand at the end of a chain of them."""
    return url if "://" in url else f"file://{os.path.abspath(url)}"


def _below(filesystem: Any, folder: str, above: str = "") -> Iterator[tuple[str, int | None, str]]:
    """Every file below a folder by its path from there, its size, and why it must not be read, or "".

    What is in a folder to be left out is told by the folder.
    """
    for item in filesystem.ls(folder, detail=True):
        path, link = item["name"].rstrip("/"), item.get("islink", False)
        if path == folder.rstrip("/"):
            continue  # a store's marker of the folder
        name = path.rpartition("/")[2]
        inside = item["type"] == "directory" or (link and os.path.isdir(path))
        problem = _junk(name, inside) or ("a link to a folder" if inside and link else "")
        if not inside and item["type"] == "other" and not os.path.isfile(path):
            problem = problem or ("a dead link" if link else "not a file")
        if inside and not problem:
            yield from _below(filesystem, path, f"{above}{name}/")
        else:
            yield f"{above}{name}{'/' * inside}", item.get("size"), problem


def _junk(name: str, folder: bool = False) -> str:
    # With an underscore: __MACOSX, and the folders that Spark and Delta keep beside their data.
    if name.startswith((".", "_") if folder else "."):
        return "hidden"
    if name.lower() in _JUNK or name.endswith("~"):
        return "left behind by a system or an editor"
    return "about the data, not part of it" if name.partition(".")[0].lower() in _PAPERS else ""


def _path_role(relative: str) -> str:
    """What the file's name says of its split, or else the nearest folder's that says anything."""
    *folders, name = relative.split("/")
    return next((role for word in (stem(name), *reversed(folders)) if (role := _role(word))), TRAIN)


def _role(name: str) -> str:
    found = {_ROLES.get(_plain(word), "") for word in _WORD.findall(name.lower())} - {""}
    return UNCLEAR if len(found) > 1 else next(iter(found), "")


def _plain(word: str) -> str:
    return re.sub("[-_ ]", "", word).removesuffix("set")


def _one_data_set(root: str, files: list[SourceFile], kind: str, languages: Sequence[str]) -> None:
    """Refuse a folder that holds several data sets, as far as the names of languages tell, unless all are wanted."""
    found: dict[frozenset[str], str] = {}
    for file in files:
        place = ""
        for word in _relative(file.name, root).lower().split("/"):
            place = f"{place}/{word}".lstrip("/")
            if label := (_pair(word) if kind == "parallel" else _language(word)):
                found.setdefault(label, place)
                break
    own = {primary(code) for code in languages}
    if len(found) < 2 or all(label <= own for label in found):
        return
    names = ", ".join(list(found.values())[:8]) + (", ..." if len(found) > 8 else "")
    wanted = next((place for label, place in found.items() if label == own), "")
    cure = f"give {root}/{wanted}" if wanted else "give one, and set corpus.languages to what it is in"
    raise CorpusError(
        f"{root}: several data sets in one: {names}; corpus.languages is [{', '.join(languages)}]: {cure}"
    )


def _pair(name: str) -> frozenset[str] | None:
    """The two languages in a name such as ``de-en`` or ``news.de-en.tsv``."""
    pairs = [{*pair} for pair in _PAIR.findall(name) if all(map(scripts, pair)) and min(map(len, pair)) == 2]
    return next((frozenset(pair) for pair in pairs if len(pair) == 2), None)


def _language(name: str) -> frozenset[str] | None:
    """The language in a name that says nothing else, such as ``20231101.ru`` or ``en.txt``."""
    words = [word for word in _WORD.findall(stem(name)) if _plain(word) not in _ROLES]
    return frozenset(words) if len(words) == 1 and len(words[0]) == 2 and scripts(words[0]) else None


def _cure(name: str, kind: str, languages: Sequence[str]) -> str:
    suffix = extensions(name)[0]
    if suffix in READ and suffix not in _CURES:
        other = "text" if kind == "parallel" else "parallel"
        also = "; if its lines are source<TAB>target, name it .tsv; if it is one of two, `paste ONE TWO > BOTH.tsv`"
        return f"; this type is read with corpus.kind {other}{also if suffix == '.txt' else ''}"
    if suffix in _CURES:
        return f"; {_PROSE if kind == 'text' and _CURES[suffix] == _TABLE else _CURES[suffix]}"
    if kind == "parallel" and scripts(suffix[1:]):
        return f"; it ends with a language's code, and corpus.languages is [{', '.join(languages)}]"
    return ""


def _supported(kind: str) -> str:
    two = ", or two files such as train.ru and train.en" if kind == "parallel" else ""
    return ", ".join(EXTENSIONS[kind]) + ", each also .gz or .zst" + two


def _relative(name: str, root: str) -> str:
    return name.removeprefix(root.rstrip("/")).lstrip("/")


def _canonical(source: str) -> str:
    """``hf://owner/name`` means a data set here, while the Hub's own library takes it for a model."""
    if not source.startswith("hf://"):
        return source
    path = source.removeprefix("hf://").strip("/")
    return "hf://" + (path if path.split("/")[0] in ("datasets", "buckets") else f"datasets/{path}")
