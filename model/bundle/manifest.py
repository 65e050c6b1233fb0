"""What a servable model is: a directory of files and a manifest, ``bundle.json``, that names each with its hash.

Loading verifies every hash before anything else reads a byte, and refuses what it does not know: another format
version, an unknown key, a file nobody listed. Writing happens beside the target and ends in one rename, so a bundle is
there whole or not at all. Same inputs, same bytes: nothing in here reads a clock. Needs neither torch nor onnx.

    python -m model.bundle runs/latest/bundle          # verifies a bundle and prints what it is
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from typing_extensions import TypedDict

from model.bundle.introduction import Introduction
from model.config import MAX_BEAMS, NetworkConfig, to_dict
from model.errors import ProjectError
from model.files import replace_directory, sha256_file
from model.settings import Count, problems, setting

# 2 has an introduction; 3 has defaults of generation, and may have one. The lowest that holds a bundle is written, for
# earlier releases to read.
FORMAT_VERSIONS = (1, 2, 3)
MANIFEST = "bundle.json"
LIMITS = {"max_prompt_tokens", "max_new_tokens"}
CACHE_DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
STATE_DTYPE = "float32"  # of a recurrent decoder, in every precision


class BundleError(ProjectError):
    """A directory that is not a usable bundle; the message says what is wrong, where, and what to do."""


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TokenizerIdentity(TypedDict):
    """Which tokenizer the network was trained with."""

    kind: str
    sha256: Sha256


class FileEntry(TypedDict):
    """What a listed file must be."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class GenerationDefaults(TypedDict):
    """How to generate where a request does not say: the width of its beam search."""

    beams: Annotated[int, Field(ge=2, le=MAX_BEAMS)]


class Bundle(BaseModel):
    """A verified bundle: the fields of ``bundle.json``, and where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1, 2, 3] = setting(..., "Which form of manifest this is.")
    name: Name = setting(..., "Name of the model.")
    family: Literal["seq2seq", "decoder"] = setting(..., "Family of the network.")
    task: Literal["translation", "text"] = setting(..., "What the model was trained for.")
    precision: Literal["fp32", "fp16", "int8"] = setting(..., "Precision of the weights.")
    languages: list[str] = setting(..., "Language codes, in the order of training.")
    authors: list[str] = setting(..., "Names that a text may be asked to be written as.")
    config: NetworkConfig = setting(..., "The network's shape.")
    vocab_size: Count = setting(..., "Size of the vocabulary.", "tokens")
    limits: dict[str, Count] = setting(..., "Most tokens of a prompt and of an answer.")
    cache_dtype: Literal["float32", "float16", "int8"] = setting(
        ..., "Numbers in the key/value cache, or in a recurrent decoder's state."
    )
    tokenizer: TokenizerIdentity = setting(..., "Kind and content hash of the tokenizer.")
    graphs: dict[Literal["encoder", "decoder"], str] = setting(..., "File of each graph.")
    files: dict[Name, FileEntry] = setting(
        ..., "Size and hash of each file; they lie directly in the bundle, under names of plain letters and digits."
    )
    metrics: dict[str, Any] = setting(..., "What was measured of it.")
    provenance: dict[str, Any] = setting(..., "What it was made of and by.")
    introduction: Introduction | None = setting(None, "What it says of itself: the text behind it, texts to try.")
    generation: GenerationDefaults | None = setting(None, "How it generates where a request does not say; else greedy.")

    _path: Path = PrivateAttr()
    _sha256: str = PrivateAttr()

    @model_validator(mode="after")
    def _agree(self) -> Bundle:
        wrong = []
        if self.config.family != self.family:
            wrong.append(f"family is {self.family!r} but config.family is {self.config.family!r}")
        if self.cache_dtype != _cache_dtype(self.precision, self.config.decoder_mixer):
            wrong.append(f"cache_dtype {self.cache_dtype!r} does not go with precision {self.precision!r}")
        if set(self.limits) != LIMITS:
            wrong.append(f"limits: expected {sorted(LIMITS)}, found {sorted(self.limits)}")
        roles = ["decoder", "encoder"] if self.family == "seq2seq" else ["decoder"]
        if sorted(self.graphs) != roles:
            wrong.append(f"graphs: a {self.family} bundle has {roles}, found {sorted(self.graphs)}")
        unlisted = sorted(set(self.graphs.values()) - self.files.keys())
        wrong += [f"graphs: {name!r} is not among the files" for name in unlisted]
        if "tokenizer.json" not in self.files:
            wrong.append("files: tokenizer.json is not among them")
        if self.format_version < 3 and (self.introduction is not None) != (self.format_version == 2):
            wrong.append("introduction: has to be there in format_version 2, and not in 1")
        if (self.generation is not None) != (self.format_version == 3):
            wrong.append("generation: has to be there in format_version 3, and in no other")
        if self.generation is not None and self.family != "seq2seq":
            wrong.append(f"generation: beams are for the family seq2seq, not {self.family}")
        if MANIFEST in self.files:
            wrong.append(f"files: {MANIFEST} cannot be one of them")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def path(self) -> Path:
        """The directory in which its files lie."""
        return self._path

    @property
    def default_beams(self) -> int:
        """Width of the beam search where a request names none; 1 is greedy."""
        return self.generation["beams"] if self.generation else 1

    @property
    def identity(self) -> dict[str, str]:
        """Which bundle this is, for whoever asks what is live: the run and the code that published it, both empty when
        none did, and the hash of its manifest, which names the hashes of all its files.
        """
        published = {name: str(self.provenance.get(name) or "") for name in ("run_id", "code_version")}
        return {**published, "sha256": self._sha256}

    @classmethod
    def load(cls, path: str | Path, verify: bool = True) -> Bundle:
        """Read and check a bundle; ``verify=False`` skips only the hashes (sizes are still compared).

        Raises:
            BundleError: broken or unknown manifest; missing, altered, unlisted or unsafely named file.
        """
        path = Path(path)
        contents = _read_manifest(path)
        bundle = _parse(_decoded(contents, path / MANIFEST), path / MANIFEST)
        bundle._path, bundle._sha256 = path, hashlib.sha256(contents).hexdigest()
        for name, entry in bundle.files.items():
            _check_file(path / name, entry, verify)
        listed = {MANIFEST, *bundle.files}
        extra = sorted(item.name for item in path.iterdir() if item.name not in listed and item.name[0] != ".")
        if extra:
            raise BundleError(f"{path}: holds files that {MANIFEST} does not list: {', '.join(extra)}; remove them")
        return bundle

    def graph(self, role: Literal["encoder", "decoder"]) -> Path:
        """The ONNX file in this role."""
        return self.path / self.graphs[role]

    @property
    def bytes(self) -> int:
        """Size of all listed files together."""
        return sum(entry["bytes"] for entry in self.files.values())


def write_bundle(out: str | Path, *, files: Mapping[str, bytes | Path], **fields: Any) -> dict[str, Any]:
    """Write a bundle directory atomically, replacing an older one; the manifest as written.

    Args:
        files: name -> contents, or the file to copy them from.
        fields: the manifest's other fields, named as in :class:`Bundle`; ``metrics`` and ``provenance`` may be left
            out, as may ``introduction`` and ``generation``; ``cache_dtype`` follows from ``precision`` and ``config``.

    Raises:
        BundleError: when the fields or file names would not make a loadable bundle; nothing is written then.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BundleError(
            f"{out}: holds other things than a bundle, and would be replaced; choose an empty or new place"
        )
    if isinstance(fields.get("config"), NetworkConfig):
        fields["config"] = to_dict(fields["config"])
    config = fields["config"] if isinstance(fields.get("config"), dict) else {}
    manifest = {
        "format_version": 3 if fields.get("generation") else 2 if fields.get("introduction") else 1,
        "name": "prometheus-mini",
        "cache_dtype": _cache_dtype(fields.get("precision", ""), config.get("decoder_mixer", "")),
        "metrics": {},
        "provenance": {},
        **fields,
        "files": {name: _entry(files[name]) for name in sorted(files)},
    }
    _parse(manifest, out / MANIFEST)
    manifest = {name: manifest[name] for name in Bundle.model_fields if manifest.get(name) is not None}
    try:
        text = json.dumps(manifest, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"{out / MANIFEST}: the manifest cannot be written as JSON: {error}") from error

    def fill(partial: Path) -> None:
        for name, contents in {**files, MANIFEST: text.encode()}.items():
            if isinstance(contents, bytes):
                (partial / name).write_bytes(contents)
            else:
                shutil.copyfile(contents, partial / name)

    replace_directory(out, fill)
    return manifest


def copy_bundle(
    source: str | Path, out: str | Path, metrics: Mapping[str, Any], provenance: Mapping[str, Any], beams: int = 1
) -> dict[str, Any]:
    """Verify a bundle and write it elsewhere, its metrics and provenance extended by those given; the new manifest.

    Args:
        beams: above 1, what the copy generates with where a request names none; else that stays as it is.
    """
    bundle = Bundle.load(source)
    fields = bundle.model_dump(exclude_unset=True, exclude={"format_version", "files"})
    fields["metrics"] |= metrics
    fields["provenance"] |= provenance
    if beams > 1:
        fields["generation"] = {"beams": beams}
    return write_bundle(out, files={name: bundle.path / name for name in bundle.files}, **fields)


def _cache_dtype(precision: str, mixer: str) -> str:
    """Of what a decoder remembers; empty for an unknown precision."""
    return STATE_DTYPE if mixer == "ssru" else CACHE_DTYPES.get(precision, "")


def _entry(contents: bytes | Path) -> dict[str, Any]:
    if isinstance(contents, bytes):
        return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    return {"bytes": contents.stat().st_size, "sha256": sha256_file(contents)}


def _read_manifest(path: Path) -> bytes:
    if not path.is_dir():
        raise BundleError(f"{path}: no such directory; a bundle is a directory holding {MANIFEST}")
    try:
        return (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: no {MANIFEST} in it; this is not a bundle, or it is still being written") from None


def _decoded(contents: bytes, where: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(contents.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON ({error}); export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{where}: expected a JSON object, found {type(manifest).__name__}")
    return manifest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return seen


def _check_file(path: Path, entry: FileEntry, verify: bool) -> None:
    if not path.is_file():
        raise BundleError(f"{path}: missing, though {MANIFEST} lists it; copy or publish the bundle again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise BundleError(f"{path}: {size} bytes, {MANIFEST} says {entry['bytes']}; the file is cut short or altered")
    if verify and (digest := sha256_file(path)) != entry["sha256"]:
        raise BundleError(f"{path}: hash mismatch: sha256 {digest}, {MANIFEST} says {entry['sha256']}; it was altered")


def _parse(manifest: dict[str, Any], where: Path) -> Bundle:
    """The manifest's fields; all problems are reported together."""
    version = manifest.get("format_version")
    if version not in FORMAT_VERSIONS or isinstance(version, bool):
        known = ", ".join(map(str, FORMAT_VERSIONS))
        raise BundleError(
            f"{where}: unknown format_version {version!r}; this version reads {known}: "
            f"use the release that wrote the bundle, or export it again"
        )
    try:
        return Bundle.model_validate(manifest)
    except ValidationError as error:
        raise BundleError(f"{where}: {'; '.join(problems(error, Bundle))}") from None
