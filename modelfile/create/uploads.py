"""All uploaded files that a request names."""

from __future__ import annotations

from dataclasses import dataclass

from modelfile.create.errors import CreateError
from modelfile.create.fileset import FileSet, open_files
from modelfile.create.request import CreateRequest, FileMap
from modelfile.create.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of the model, of each adapter, and of a model that runs ahead."""

    model: FileSet | None
    adapters: tuple[FileSet, ...]
    drafts: FileSet | None


def open_uploads(workspace: Workspace, request: CreateRequest) -> Uploads:
    """Find the files; blocking. Raises CreateError if one is not there, or a set of them is nothing known."""
    return Uploads(
        None if request.files is None else open_files(workspace, request.files),
        tuple(_open_adapter(workspace, files) for files in request.adapters),
        None if request.drafts is None else open_files(workspace, request.drafts),
    )


def _open_adapter(workspace: Workspace, names: FileMap) -> FileSet:
    files = open_files(workspace, names)
    if files.kind == "gguf" and len(files.files) > 1:
        raise CreateError("only one adapter is currently supported")
    return files
