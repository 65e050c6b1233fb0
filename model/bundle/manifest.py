"""What a servable model is: a directory of files and a manifest, ``bundle.json``, that names each with its hash.

Loading verifies every hash before anything else reads a byte, and refuses what it does not know: another format
version, an unknown key, a file nobody listed. Writing happens beside the target and ends in one rename, so a bundle is
there whole or not at all. Same inputs, same bytes: nothing in here reads a clock. Needs neither torch nor onnx.

    python -m model.bundle runs/latest/bundle          # verifies a bundle and prints what it is
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ConfigError, NetworkConfig, from_dict, to_dict
from model.errors import ProjectError
from model.files import fsync_path, replace_directory, sha256_file

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
FAMILIES = ("seq2seq", "decoder")
TASKS = ("translation", "text")
CACHE_DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
LIMITS = ("max_prompt_tokens", "max_new_tokens")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(ProjectError):
    """A directory that is not a usable bundle; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; the fields are those of ``bundle.json``, plus where it lies."""

    path: Path
    format_version: int
    name: str
    family: str
    task: str
    precision: str
    languages: list[str]
    authors: list[str]
    config: NetworkConfig
    vocab_size: int
    limits: dict[str, int]
    cache_dtype: str
    tokenizer: dict[str, str]
    graphs: dict[str, str]
    files: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    provenance: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path, verify: bool = True) -> Bundle:
        """Read and check a bundle; ``verify=False`` skips only the hashes (sizes are still compared).

        Raises:
            BundleError: broken or unknown manifest; missing, altered, unlisted or unsafely named file.
        """
        path = Path(path)
        bundle = cls(path=path, **_parse(_read_manifest(path), path / MANIFEST))
        for name, entry in bundle.files.items():
            _check_file(path / name, entry, verify)
        listed = {MANIFEST, *bundle.files}
        extra = sorted(item.name for item in path.iterdir() if item.name not in listed and item.name[0] != ".")
        if extra:
            raise BundleError(f"{path}: holds files that {MANIFEST} does not list: {', '.join(extra)}; remove them")
        return bundle

    def file(self, name: str) -> Path:
        """Where a listed file lies.

        Raises:
            BundleError: when the bundle does not list it.
        """
        if name not in self.files:
            raise BundleError(f"{self.path}: no file {name!r} in this bundle; it lists {', '.join(sorted(self.files))}")
        return self.path / name

    def graph(self, role: str) -> Path:
        """The ONNX file in the role ``encoder`` or ``decoder``."""
        if role not in self.graphs:
            raise BundleError(f"{self.path}: a {self.family} bundle has no {role} graph")
        return self.file(self.graphs[role])

    @property
    def bytes(self) -> int:
        """Size of all listed files together."""
        return sum(entry["bytes"] for entry in self.files.values())


def write_bundle(out: str | Path, *, files: Mapping[str, bytes | Path], **fields: Any) -> dict[str, Any]:
    """Write a bundle directory atomically, replacing an older one; the manifest as written.

    Args:
        files: name -> contents, or the file to copy them from.
        fields: the manifest's other fields, named as in :class:`Bundle`; ``metrics`` and ``provenance`` may be left
            out, ``cache_dtype`` follows from ``precision``.

    Raises:
        BundleError: when the fields or file names would not make a loadable bundle; nothing is written then.
    """
    fields.setdefault("metrics", {})
    fields.setdefault("provenance", {})
    fields.setdefault("name", "prometheus-mini")
    fields.setdefault("cache_dtype", CACHE_DTYPES.get(fields.get("precision", ""), ""))
    if isinstance(fields.get("config"), NetworkConfig):
        fields["config"] = to_dict(fields["config"])
    out = Path(out)
    for name in files:
        _check_name(name, out)
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BundleError(
            f"{out}: holds other things than a bundle, and would be replaced; choose an empty or new place"
        )

    def fill(partial: Path) -> dict[str, Any]:
        entries = {}
        for name in sorted(files):
            contents = files[name]
            if isinstance(contents, bytes):
                (partial / name).write_bytes(contents)
            else:
                shutil.copyfile(contents, partial / name)
            entries[name] = {"bytes": (partial / name).stat().st_size, "sha256": sha256_file(partial / name)}
            fsync_path(partial / name)
        manifest = {"format_version": FORMAT_VERSION, **fields, "files": entries}
        parsed = _parse(manifest, out / MANIFEST)
        ordered = {f.name: manifest[f.name] for f in dataclasses.fields(Bundle) if f.name in parsed}
        _write_manifest(partial, ordered)
        return ordered

    return replace_directory(out, fill)


def copy_bundle(
    source: str | Path, out: str | Path, metrics: dict[str, Any] | None = None, provenance: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Verify a bundle and write it elsewhere, its metrics and provenance extended by those given; the new manifest."""
    bundle = Bundle.load(source)
    manifest = _read_manifest(bundle.path)
    kept = {key: value for key, value in manifest.items() if key not in ("format_version", "files")}
    kept["metrics"] = {**bundle.metrics, **(metrics or {})}
    kept["provenance"] = {**bundle.provenance, **(provenance or {})}
    return write_bundle(out, files={name: bundle.path / name for name in bundle.files}, **kept)


def update_metrics(
    path: str | Path, metrics: dict[str, Any], provenance: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Extend the metrics (and provenance) of a bundle in place, atomically; the new manifest."""
    path = Path(path)
    Bundle.load(path, verify=False)
    manifest = _read_manifest(path)
    manifest["metrics"] = {**manifest["metrics"], **metrics}
    manifest["provenance"] = {**manifest["provenance"], **(provenance or {})}
    _write_manifest(path, manifest)
    return manifest


def _write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    try:
        text = json.dumps(manifest, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"{directory / MANIFEST}: the manifest cannot be written as JSON: {error}") from error
    partial = directory / f".{MANIFEST}.{os.getpid()}"
    partial.write_text(text, encoding="utf-8")
    fsync_path(partial)
    partial.replace(directory / MANIFEST)
    fsync_path(directory)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise BundleError(f"{path}: no such directory; a bundle is a directory holding {MANIFEST}")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
    except FileNotFoundError:
        raise BundleError(f"{path}: no {MANIFEST} in it; this is not a bundle, or it is still being written") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST}: not valid JSON ({error}); export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path / MANIFEST}: expected a JSON object, found {type(manifest).__name__}")
    return manifest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return seen


def _check_name(name: Any, where: Path) -> None:
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name) or name == MANIFEST:
        raise BundleError(
            f"{where}: unsafe file name {name!r}; a bundle's files lie directly in it and are named with letters, "
            f"digits, dot, dash and underscore"
        )


def _check_file(path: Path, entry: dict[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise BundleError(f"{path}: missing, though {MANIFEST} lists it; copy or publish the bundle again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise BundleError(f"{path}: {size} bytes, {MANIFEST} says {entry['bytes']}; the file is cut short or altered")
    if verify and (digest := sha256_file(path)) != entry["sha256"]:
        raise BundleError(f"{path}: hash mismatch: sha256 {digest}, {MANIFEST} says {entry['sha256']}; it was altered")


def _parse(manifest: dict[str, Any], where: Path) -> dict[str, Any]:
    """The manifest's fields with ``config`` built; all problems are reported together."""
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(
            f"{where}: unknown format_version {version!r}; this version reads {FORMAT_VERSION}: "
            f"use the release that wrote the bundle, or export it again"
        )
    known = {f.name for f in dataclasses.fields(Bundle)} - {"path"}
    problems = [f"unknown key {key!r}" for key in sorted(manifest.keys() - known)]
    problems += [f"missing key {key!r}" for key in sorted(known - manifest.keys())]
    if problems:
        raise BundleError(f"{where}: {'; '.join(problems)}")
    for name in manifest["files"] if isinstance(manifest["files"], dict) else ():
        _check_name(name, where)
    for key, (expectation, holds) in _CHECKS.items():
        if not holds(manifest[key]):
            problems.append(f"{key}: expected {expectation}, found {manifest[key]!r}")
    values = dict(manifest)
    try:
        values["config"] = from_dict(NetworkConfig, manifest["config"], "config")
    except ConfigError as error:
        problems += str(error).splitlines()
    if not problems:
        problems = _contradictions(values)
    if problems:
        raise BundleError(f"{where}: {'; '.join(problems)}")
    return values


def _contradictions(manifest: dict[str, Any]) -> list[str]:
    problems = []
    if manifest["config"].family != manifest["family"]:
        problems.append(f"family is {manifest['family']!r} but config.family is {manifest['config'].family!r}")
    if manifest["cache_dtype"] != CACHE_DTYPES[manifest["precision"]]:
        problems.append(f"cache_dtype {manifest['cache_dtype']!r} does not go with precision {manifest['precision']!r}")
    roles = {"encoder", "decoder"} if manifest["family"] == "seq2seq" else {"decoder"}
    if set(manifest["graphs"]) != roles:
        problems.append(
            f"graphs: a {manifest['family']} bundle has {sorted(roles)}, found {sorted(manifest['graphs'])}"
        )
    unlisted = sorted(set(manifest["graphs"].values()) - manifest["files"].keys())
    problems += [f"graphs: {name!r} is not among the files" for name in unlisted]
    if "tokenizer.json" not in manifest["files"]:
        problems.append("files: tokenizer.json is not among them")
    return problems


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _string_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _file_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
        return False
    return _count(entry["bytes"]) and isinstance(entry["sha256"], str) and bool(_SHA256.fullmatch(entry["sha256"]))


def _one_of(choices: Any) -> tuple[str, Callable[[Any], bool]]:
    return f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices


_MAPPING: tuple[str, Callable[[Any], bool]] = ("a mapping", lambda value: isinstance(value, dict))
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a name", lambda value: isinstance(value, str) and bool(_SAFE_NAME.fullmatch(value))),
    "family": _one_of(FAMILIES),
    "task": _one_of(TASKS),
    "precision": _one_of(CACHE_DTYPES),
    "cache_dtype": _one_of(CACHE_DTYPES.values()),
    "languages": ("a list of strings", _strings),
    "authors": ("a list of strings", _strings),
    "vocab_size": ("a positive integer", lambda value: _count(value) and value > 0),
    "limits": (
        f"positive integers for {' and '.join(LIMITS)}",
        lambda value: isinstance(value, dict) and set(value) == set(LIMITS) and all(map(_positive, value.values())),
    ),
    "tokenizer": ("kind and sha256", lambda value: _string_map(value) and set(value) == {"kind", "sha256"}),
    "graphs": ("file names by role", _string_map),
    "files": (
        "bytes and sha256 (64 hex digits) for each name",
        lambda value: isinstance(value, dict) and all(map(_file_entry, value.values())),
    ),
    "metrics": _MAPPING,
    "provenance": _MAPPING,
}


def _positive(value: Any) -> bool:
    return _count(value) and value > 0
