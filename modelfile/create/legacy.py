"""The old form of a request: the text of a Modelfile, in place of what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modelfile.create.references import References
from modelfile.create.request import CreateError, CreateRequest, FileMap
from modelfile.encoding import decode
from modelfile.parser import parse
from modelfile.spec import ModelSpec, model_spec
from registry.names import Digest, ModelName

_LONGEST = 4 << 20  # bytes
_MOST_SOURCES = 256  # each has to be looked for


def read_modelfile(path: Path) -> str:
    """The text of a Modelfile on this machine. Raises CreateError."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            raise CreateError("error reading modelfile: no such file or directory")
        return decode(path.read_bytes())
    except OSError as error:
        raise CreateError(f"error reading modelfile: {error.strerror}") from None


def with_modelfile(request: CreateRequest, text: str, references: References) -> CreateRequest:
    """The request with what a Modelfile adds to it; of what both say, the request's counts.

    Its uploaded files are those that the Modelfile names. Raises ModelfileError, CreateError or InvalidDigest, or what
    the store raises. Blocking.
    """
    if len(text) > _LONGEST:
        raise CreateError(f"modelfile too long: at most {_LONGEST} characters are accepted")
    wanted = model_spec(parse(text))
    if len(wanted.sources) + len(wanted.adapters) + len(wanted.drafts) > _MOST_SOURCES:
        raise CreateError(f"too many FROM, ADAPTER and DRAFT lines: at most {_MOST_SOURCES} are accepted")
    base, files = _sources(request, wanted, references)
    [uploads] = request.adapters or [{}]
    adapters = tuple(references.files(text, uploads) for text in wanted.adapters)
    drafts = [references.files(text, request.drafts or {}) for text in wanted.drafts]
    return replace(
        request,
        base=base,
        files=files,
        adapters=adapters or request.adapters,
        drafts=drafts[-1] if drafts else request.drafts,
        template=request.template or wanted.template,
        system=request.system or wanted.system,
        licenses=request.licenses or tuple(wanted.licenses),
        parameters={**wanted.parameters, **request.parameters},
        messages=request.messages or tuple(wanted.messages),
        renderer=request.renderer or wanted.renderer,
        parser=request.parser or wanted.parser,
        requires=request.requires or wanted.requires,
    )


def _sources(
    request: CreateRequest, wanted: ModelSpec, references: References
) -> tuple[ModelName | None, FileMap | None]:
    """The model below, which is the last one named, and all files. Beside a model there may be no other weights."""
    found = [(text, references.model_or_files(text, request.files or {})) for text in wanted.sources]
    names = [source for _, source in found if isinstance(source, ModelName)]
    base = request.base or (names[-1] if names else None)
    files: dict[str, Digest | Path] = {}
    for text, source in found:
        if isinstance(source, ModelName):
            continue
        if base is not None and not all(references.is_extra(file) for file in source.values()):
            raise CreateError(f"invalid model reference: {text}")
        files |= source
    return base, files or None
