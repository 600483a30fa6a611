"""Uploaded files that belong together: what they are, seen by their names and first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelfile.create.errors import CreateError
from modelfile.create.request import FileMap
from modelfile.create.workspace import Workspace
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
