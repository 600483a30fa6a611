"""All uploaded files that a request names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from modelfile.create.errors import CreateError
from modelfile.create.fileset import FileSet, open_files
from modelfile.create.gguf import media_type, read_gguf
from modelfile.create.request import CreateRequest, FileMap
from modelfile.create.workspace import Workspace
from modelfile.quantize import source_type
from registry import manifest as kinds


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
            if media_type(header) == kinds.MODEL and not header.metadata.get("split.no"):  # the first shard speaks
                source_type(header)
