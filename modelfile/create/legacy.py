"""Requests with the text of a Modelfile (the old form): its commands and file references become a CreateRequest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelfile.create.files import media_type, read_gguf
from modelfile.create.request import CreateError, CreateRequest, FileMap
from modelfile.parser import decode, parse
from modelfile.paths import expand, files_at, is_absolute
from modelfile.spec import ModelSpec, model_spec
from registry import manifest as media_types
from registry.names import Digest, InvalidName, ModelName
from registry.storage.store import ModelMissing, Store

_BLOB = "@"


@dataclass(frozen=True, slots=True)
class References:
    """Resolves FROM, ADAPTER and DRAFT on the server. Reads directories, so not on the event loop.

    Relative paths are resolved against the first of `folders` where they exist; None is a deleted folder. Without
    folders, local files are forbidden.
    """

    store: Store
    folders: Sequence[Path | None]

    def model_or_files(self, text: str, uploads: FileMap) -> ModelName | FileMap:
        """The first match: a blob, an upload, a stored model, local files, or a model to pull.

        Raises CreateError, or ModelfileError for a folder without a model.
        """
        source = self._uploaded(text, uploads) or self._stored(text) or self._local(text) or _model_name(text)
        if source is None:
            raise CreateError(f"invalid model reference: {text}")
        return source

    def files(self, text: str, uploads: FileMap) -> FileMap:
        """A blob, an upload, or local files. Raises CreateError or ModelfileError."""
        source = self._uploaded(text, uploads) or self._local(text)
        if source is None:
            raise CreateError(f"invalid model reference: {text}")
        return source

    def is_extra(self, source: Digest | Path) -> bool:
        """Whether a file is a projector or adapter, not a model. Raises CreateError for a broken file."""
        path = source if isinstance(source, Path) else self.store.blob_path(source)
        return path.is_file() and media_type(read_gguf(path)) != media_types.MODEL

    def _uploaded(self, text: str, uploads: FileMap) -> FileMap | None:
        if text.startswith(_BLOB):
            digest = Digest.parse(text.removeprefix(_BLOB))
            return {digest.filename: digest}
        return {text: uploads[text]} if text in uploads else None

    def _stored(self, text: str) -> ModelName | None:
        name = _model_name(text)
        if name is not None:
            with suppress(ModelMissing):
                return self.store.find(name).name
        return None

    def _local(self, text: str) -> FileMap | None:
        path = next((path for path in self._places(text) if path.exists()), None)
        return None if path is None else files_at(path)

    def _places(self, text: str) -> Iterator[Path]:
        return (expand(text, folder) for folder in self.folders if folder is not None or is_absolute(text))


def _model_name(text: str) -> ModelName | None:
    with suppress(InvalidName):
        return ModelName.parse(text)
    return None


_LONGEST = 4 << 20  # bytes
_MOST_SOURCES = 256  # each costs a look-up


def read_modelfile(path: Path) -> str:
    """Read a local Modelfile. Raises CreateError."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            raise CreateError("error reading modelfile: no such file or directory")
        return decode(path.read_bytes())
    except OSError as error:
        raise CreateError(f"error reading modelfile: {error.strerror}") from None


def with_modelfile(request: CreateRequest, text: str, references: References) -> CreateRequest:
    """Add a Modelfile to a request; the request's own fields win. Uploads are referenced by name. Blocking.

    Raises ModelfileError, CreateError, InvalidDigest, or what the store raises.
    """
    if len(text) > _LONGEST:
        raise CreateError(f"modelfile too long: at most {_LONGEST} characters are accepted")
    spec = model_spec(parse(text))
    if len(spec.sources) + len(spec.adapters) + len(spec.drafts) > _MOST_SOURCES:
        raise CreateError(f"too many FROM, ADAPTER and DRAFT lines: at most {_MOST_SOURCES} are accepted")
    base, files = _sources(request, spec, references)
    [uploads] = request.adapters or [{}]
    adapters = tuple(references.files(text, uploads) for text in spec.adapters)
    drafts = [references.files(text, request.drafts or {}) for text in spec.drafts]
    return replace(
        request,
        base=base,
        files=files,
        adapters=adapters or request.adapters,
        drafts=drafts[-1] if drafts else request.drafts,
        template=request.template or spec.template,
        system=request.system or spec.system,
        licenses=request.licenses or tuple(spec.licenses),
        parameters={**spec.parameters, **request.parameters},
        messages=request.messages or tuple(spec.messages),
        renderer=request.renderer or spec.renderer,
        parser=request.parser or spec.parser,
        requires=request.requires or spec.requires,
    )


def _sources(
    request: CreateRequest, spec: ModelSpec, references: References
) -> tuple[ModelName | None, FileMap | None]:
    """The base model (the last one named) and all files. With a base, other weights are refused."""
    sources = [(text, references.model_or_files(text, request.files or {})) for text in spec.sources]
    names = [source for _, source in sources if isinstance(source, ModelName)]
    base = request.base or (names[-1] if names else None)
    files: dict[str, Digest | Path] = {}
    for text, source in sources:
        if isinstance(source, ModelName):
            continue
        if base is not None and not all(references.is_extra(file) for file in source.values()):
            raise CreateError(f"invalid model reference: {text}")
        files |= source
    return base, files or None
