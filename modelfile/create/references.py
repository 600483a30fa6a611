"""What the FROM, ADAPTER and DRAFT of a Modelfile mean to the server that is given it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelfile.create.files import media_type, read_gguf
from modelfile.create.request import CreateError, FileMap
from modelfile.paths import expand, files_at, is_absolute
from registry import manifest as media_types
from registry.names import Digest, InvalidName, ModelName
from registry.storage.store import ModelMissing, Store

_BLOB = "@"


@dataclass(frozen=True, slots=True)
class References:
    """Finds models and files; reads directories, so not on the event loop.

    `folders` are those from which relative paths are seen, the first one where the path exists; None stands for one
    that has been deleted. Without any, nobody may name files of this machine.
    """

    store: Store
    folders: Sequence[Path | None]

    def model_or_files(self, text: str, uploads: FileMap) -> ModelName | FileMap:
        """A blob, an upload, a stored model, files of this machine, or a model to be pulled: the first that fits.

        Raises CreateError, or ModelfileError for a folder that holds no model.
        """
        found = self._uploaded(text, uploads) or self._stored(text) or self._local(text) or _name(text)
        if found is None:
            raise CreateError(f"invalid model reference: {text}")
        return found

    def files(self, text: str, uploads: FileMap) -> FileMap:
        """A blob, an uploaded file, or files of this machine. Raises CreateError or ModelfileError."""
        found = self._uploaded(text, uploads) or self._local(text)
        if found is None:
            raise CreateError(f"invalid model reference: {text}")
        return found

    def is_extra(self, source: Digest | Path) -> bool:
        """Whether a file goes with a model, as projectors and adapters do. Raises CreateError for a broken one."""
        path = source if isinstance(source, Path) else self.store.blob_path(source)
        return path.is_file() and media_type(read_gguf(path)) != media_types.MODEL

    def _uploaded(self, text: str, uploads: FileMap) -> FileMap | None:
        if text.startswith(_BLOB):
            digest = Digest.parse(text.removeprefix(_BLOB))
            return {digest.filename: digest}
        return {text: uploads[text]} if text in uploads else None

    def _stored(self, text: str) -> ModelName | None:
        name = _name(text)
        if name is not None:
            with suppress(ModelMissing):
                return self.store.find(name).name
        return None

    def _local(self, text: str) -> FileMap | None:
        path = next((path for path in self._places(text) if path.exists()), None)
        return None if path is None else files_at(path)

    def _places(self, text: str) -> Iterator[Path]:
        return (expand(text, folder) for folder in self.folders if folder is not None or is_absolute(text))


def _name(text: str) -> ModelName | None:
    with suppress(InvalidName):
        return ModelName.parse(text)
    return None
