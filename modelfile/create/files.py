"""Uploaded files that belong together: what they are, seen by their names and first bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelfile.create.request import CreateError, CreateRequest, FileMap
from modelfile.create.transaction import Workspace
from modelfile.quantize import source_type
from registry import manifest as media_types
from registry.gguf import GGUFError, GGUFHeader, read_header, require_complete
from registry.manifest import MAX_LAYERS
from registry.names import Digest

_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file: the name that it had, and its blob."""

    name: str
    digest: Digest
    path: Path

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF, or should be one by its name."""
        return self.name.endswith(".gguf") or self.has_magic

    @property
    def has_magic(self) -> bool:
        """Whether it begins as a GGUF does. Reads the file."""
        with self.path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one model or adapter, sorted by name. A set of GGUFs holds nothing else."""

    kind: Literal["gguf", "safetensors"]
    files: tuple[UploadedFile, ...]

    def paths(self) -> dict[str, Path]:
        """Where the files are, by name."""
        return {file.name: file.path for file in self.files}


def open_files(workspace: Workspace, names: FileMap) -> FileSet:
    """The files behind these names; blocking. Raises CreateError if one is not there, or if they are nothing known."""
    digests = ((name, workspace.take(source)) for name, source in sorted(names.items()))
    files = tuple(UploadedFile(name, digest, workspace.store.blob_path(digest)) for name, digest in digests)
    if any(file.name.endswith(".safetensors") for file in files):
        return FileSet("safetensors", files)
    weights = tuple(file for file in files if file.is_gguf)
    if not weights:
        raise CreateError("unknown type")
    if len(weights) > MAX_LAYERS:
        raise CreateError(f"too many GGUF files: {len(weights)}, at most {MAX_LAYERS} are accepted")
    return FileSet("gguf", weights)


# Models that come in several GGUF files: which files belong together. Pure.

_NAME = re.compile(r"(?P<prefix>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one model, the first shard first; one file, unless it is split."""

    files: tuple[UploadedFile, ...]
    headers: tuple[GGUFHeader, ...]

    @property
    def header(self) -> GGUFHeader:
        """What the first file says."""
        return self.headers[0]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.path.stat().st_size for file in self.files)


@dataclass(frozen=True, slots=True)
class _Shard:
    file: UploadedFile
    header: GGUFHeader
    prefix: str
    index: int
    count: int


def group(files: Iterable[tuple[UploadedFile, GGUFHeader]]) -> list[Source]:
    """Put the shards of each model together, at the place of the first of them. Raises CreateError."""
    shards: dict[str, list[_Shard]] = {}
    found: dict[str, Source] = {}
    for file, header in files:
        if _number(header, "split.count") in (None, 0, 1):
            found[file.name] = Source((file,), (header,))
            continue
        shard = _shard(file, header)
        shards.setdefault(shard.prefix, []).append(shard)
        found[f"{shard.prefix}-"] = Source((), ())
    for prefix, members in shards.items():
        found[f"{prefix}-"] = _joined(members)
    return list(found.values())


def _shard(file: UploadedFile, header: GGUFHeader) -> _Shard:
    """A file that says it is one of several, checked against its name."""
    whole = f'split GGUF "{file.name}"'
    name = _NAME.fullmatch(file.name)
    if name is None:
        raise CreateError(f"{whole} must use llama.cpp split filename pattern")
    index, count = int(name["index"]), int(name["count"])
    number, total = _number(header, "split.no"), _number(header, "split.count")
    if total != count:
        raise CreateError(f"{whole} filename count {count} does not match metadata count {total}")
    if number is None:
        raise CreateError(f"{whole} is missing split.no metadata")
    if number + 1 != index:
        raise CreateError(f"{whole} filename index {index} does not match metadata index {number + 1}")
    return _Shard(file, header, name["prefix"], index, count)


def _joined(shards: list[_Shard]) -> Source:
    shards = sorted(shards, key=lambda shard: shard.index)
    whole, count = f'split GGUF "{shards[0].file.name}"', shards[0].count
    if len(shards) != count:
        raise CreateError(f"{whole} has {len(shards)} shards, expected {count}")
    headers = tuple(shard.header for shard in shards)
    try:
        require_complete(headers)
    except GGUFError as error:
        raise CreateError(f"{whole}: {error}") from None
    return Source(tuple(shard.file for shard in shards), headers)


def _number(header: GGUFHeader, key: str) -> int | None:
    """A number about the split, which some programs put under the architecture's name."""
    value: Any = header.metadata.get(key, header.field(key))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# GGUF files: what each of them is for.

_TYPES = {"adapter": media_types.ADAPTER, "projector": media_types.PROJECTOR, "mmproj": media_types.PROJECTOR}
_ENCODERS = ("clip.has_vision_encoder", "clip.has_audio_encoder")


def read_gguf(path: Path) -> GGUFHeader:
    """The header of an uploaded file, checked against the file's length; blocking. Raises CreateError."""
    try:
        header = read_header(path)
        header.require_sizes()
        return header
    except GGUFError as error:
        raise CreateError(str(error)) from None


def media_type(header: GGUFHeader) -> str:
    """Which kind of layer a file becomes: a model, unless it says otherwise."""
    kind = header.metadata.get("general.type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    return media_types.PROJECTOR if _is_projector(header) else media_types.MODEL


def _is_projector(header: GGUFHeader) -> bool:
    if header.field("block_count") is not None:
        return False
    if _positive(header.field("vision.block_count")):
        return True
    return header.architecture == "clip" and any(header.metadata.get(key) is True for key in _ENCODERS)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


# All uploaded files that a request names.


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of the model, of each adapter, and of a model that runs ahead."""

    model: FileSet | None
    adapters: tuple[FileSet, ...]
    drafts: FileSet | None


def open_uploads(workspace: Workspace, request: CreateRequest) -> Uploads:
    """Find the files; blocking. Raises CreateError if one is not there, or a set of them is nothing known.

    Raises QuantizeError for weights that cannot be quantised as the request wants it.
    """
    model = None if request.files is None else open_files(workspace, request.files)
    if model is not None and request.quantize:
        _check_types(model)
    return Uploads(
        model,
        tuple(_open_adapter(workspace, files) for files in request.adapters),
        None if request.drafts is None else open_files(workspace, request.drafts),
    )


def _open_adapter(workspace: Workspace, names: FileMap) -> FileSet:
    files = open_files(workspace, names)
    if files.kind == "gguf" and len(files.files) > 1:
        raise CreateError("only one adapter is currently supported")
    return files


def _check_types(files: FileSet) -> None:
    """Look for unfit weights now, before anything is told; files that are broken are refused when they are read."""
    for path in {file.path for file in files.files} if files.kind == "gguf" else ():
        with suppress(CreateError):
            header = read_gguf(path)
            if media_type(header) == media_types.MODEL and not header.metadata.get(
                "split.no"
            ):  # the first shard speaks
                source_type(header)
