"""Uploaded files of a model: their format, the shards of split models, the kind of each GGUF."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelfile.create.request import CreateError, CreateRequest, FileMap
from modelfile.create.transaction import Transaction
from modelfile.quantize import source_type
from registry import manifest as media_types
from registry.gguf import GGUFError, GGUFHeader, read_header, require_complete
from registry.manifest import MAX_LAYERS
from registry.names import Digest

_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """An uploaded file: its original name, and its blob."""

    name: str
    digest: Digest
    path: Path

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF by name or content."""
        return self.name.endswith(".gguf") or self.has_magic

    @property
    def has_magic(self) -> bool:
        """Whether it starts with GGUF's magic bytes. Reads the file."""
        with self.path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one model or adapter, sorted by name. A set of GGUFs holds nothing else."""

    kind: Literal["gguf", "safetensors"]
    files: tuple[UploadedFile, ...]

    def paths(self) -> dict[str, Path]:
        """Paths by file name."""
        return {file.name: file.path for file in self.files}


def open_files(transaction: Transaction, names: FileMap) -> FileSet:
    """Open the files of one model or adapter. Blocking. Raises CreateError for a missing file or unknown format."""
    digests = ((name, transaction.take(source)) for name, source in sorted(names.items()))
    files = tuple(UploadedFile(name, digest, transaction.store.blob_path(digest)) for name, digest in digests)
    if any(file.name.endswith(".safetensors") for file in files):
        return FileSet("safetensors", files)
    weights = tuple(file for file in files if file.is_gguf)
    if not weights:
        raise CreateError("unknown type")
    if len(weights) > MAX_LAYERS:
        raise CreateError(f"too many GGUF files: {len(weights)}, at most {MAX_LAYERS} are accepted")
    return FileSet("gguf", weights)


_NAME = re.compile(r"(?P<prefix>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GGUFModel:
    """The GGUF files of one model: one, or the shards of a split model in order."""

    files: tuple[UploadedFile, ...]
    headers: tuple[GGUFHeader, ...]

    @property
    def header(self) -> GGUFHeader:
        """The header of the first file."""
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


def group(files: Iterable[tuple[UploadedFile, GGUFHeader]]) -> list[GGUFModel]:
    """Group shards by model, in order of each model's first file. Raises CreateError."""
    shards: dict[str, list[_Shard]] = {}
    models: dict[str, GGUFModel] = {}
    for file, header in files:
        if _number(header, "split.count") in (None, 0, 1):
            models[file.name] = GGUFModel((file,), (header,))
            continue
        shard = _shard(file, header)
        shards.setdefault(shard.prefix, []).append(shard)
        models[f"{shard.prefix}-"] = GGUFModel((), ())
    for prefix, members in shards.items():
        models[f"{prefix}-"] = _joined(members)
    return list(models.values())


def _shard(file: UploadedFile, header: GGUFHeader) -> _Shard:
    """A shard; its metadata must agree with its name."""
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


def _joined(shards: list[_Shard]) -> GGUFModel:
    shards = sorted(shards, key=lambda shard: shard.index)
    whole, count = f'split GGUF "{shards[0].file.name}"', shards[0].count
    if len(shards) != count:
        raise CreateError(f"{whole} has {len(shards)} shards, expected {count}")
    headers = tuple(shard.header for shard in shards)
    try:
        require_complete(headers)
    except GGUFError as error:
        raise CreateError(f"{whole}: {error}") from None
    return GGUFModel(tuple(shard.file for shard in shards), headers)


def _number(header: GGUFHeader, key: str) -> int | None:
    """A number of the split, which some programs write below the architecture's name."""
    value: Any = header.metadata.get(key, header.field(key))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_TYPES = {"adapter": media_types.ADAPTER, "projector": media_types.PROJECTOR, "mmproj": media_types.PROJECTOR}
_ENCODERS = ("clip.has_vision_encoder", "clip.has_audio_encoder")


def read_gguf(path: Path) -> GGUFHeader:
    """Read and check the header of an uploaded GGUF. Blocking. Raises CreateError."""
    try:
        header = read_header(path)
        header.require_sizes()
        return header
    except GGUFError as error:
        raise CreateError(str(error)) from None


def media_type(header: GGUFHeader) -> str:
    """The media type of a GGUF's layer: model, adapter or projector."""
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


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of the model, of each adapter, and of the draft model."""

    model: FileSet | None
    adapters: tuple[FileSet, ...]
    drafts: FileSet | None


def open_uploads(transaction: Transaction, request: CreateRequest) -> Uploads:
    """Open all files of a request. Blocking. Raises CreateError for a missing file or unknown format.

    Raises QuantizeError for weights that cannot be quantized as requested.
    """
    model = None if request.files is None else open_files(transaction, request.files)
    if model is not None and request.quantize:
        _check_types(model)
    return Uploads(
        model,
        tuple(_open_adapter(transaction, files) for files in request.adapters),
        None if request.drafts is None else open_files(transaction, request.drafts),
    )


def _open_adapter(transaction: Transaction, names: FileMap) -> FileSet:
    files = open_files(transaction, names)
    if files.kind == "gguf" and len(files.files) > 1:
        raise CreateError("only one adapter is currently supported")
    return files


def _check_types(files: FileSet) -> None:
    """Raise QuantizeError before the first step; broken files are refused later, when they are read."""
    for path in {file.path for file in files.files} if files.kind == "gguf" else ():
        with suppress(CreateError):
            header = read_gguf(path)
            is_first = not header.metadata.get("split.no")  # of a split model the first shard has the type
            if is_first and media_type(header) == media_types.MODEL:
                source_type(header)
