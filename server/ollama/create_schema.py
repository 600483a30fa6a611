"""The body of `POST /api/create`."""

# ruff: noqa: RUF009 - `member` makes the dataclass fields; nothing mutable is shared

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.api import Message
from engine.errors import InvalidRequest
from engine.names import local_name
from modelfile.create import CreateRequest, FileMap, check_names
from modelfile.messages import StoredCall, StoredFunction, StoredMessage
from registry.names import Digest, InvalidName, ModelName
from server.gotypes import ANY, BOOL, STRING, Kind, decode_as, list_of, map_of, member, struct
from server.ollama.fields import MESSAGES
from server.ollama.schemas import Named

_FILES = map_of(STRING)
_MAP = map_of(ANY, "map[string]interface {}")
_RAW: Kind[Any] = Kind("interface {}", None, lambda value, _: value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBody(Named):
    """`POST /api/create`. `modelfile` and `path` are the form that old clients send; maps may be absent or empty."""

    stream: bool = member(BOOL, default=True)
    modelfile: str = member(STRING)
    path: str = member(STRING)
    quantize: str = member(STRING)
    quantization: str = member(STRING)
    draft_quantize: str = member(STRING)
    from_: str = member(STRING, "from")
    remote_host: str = member(STRING)
    files: Mapping[str, str] | None = member(_FILES, default=None)
    draft_files: Mapping[str, str] | None = member(_FILES, default=None)
    adapters: Mapping[str, str] | None = member(_FILES, default=None)
    template: str = member(STRING)
    license: Any = member(_RAW)
    system: str = member(STRING)
    parameters: Mapping[str, Any] = member(_MAP)
    messages: tuple[Message, ...] = member(MESSAGES)
    renderer: str = member(STRING)
    parser: str = member(STRING)
    requires: str = member(STRING)
    info: Mapping[str, Any] = member(_MAP)

    @property
    def is_old(self) -> bool:
        """Whether it has the form that was replaced: a Modelfile instead of what it says."""
        return bool(self.modelfile or self.path)

    def request(self) -> CreateRequest:
        """What is to be made. Raises InvalidName, InvalidDigest, CloudModel, CreateError, or TypeMismatch (license)."""
        files, adapters = _files(self.files), _files(self.adapters)
        check_names(files or ())
        return CreateRequest(
            name=ModelName.parse(self.model_name),
            base=_source(self.from_) if self.from_ else None,
            files=None if self.from_ and not self.is_old else files,
            adapters=() if adapters is None else (adapters,),
            drafts=_files(self.draft_files),
            quantize=self.quantize or self.quantization,
            draft_quantize=self.draft_quantize,
            template=self.template,
            system=self.system,
            licenses=_licenses(self.license),
            parameters=self.parameters,
            messages=tuple(_stored(message) for message in self.messages),
            renderer=self.renderer,
            parser=self.parser,
            requires=self.requires,
            info=self.info,
        )


CREATE = struct(CreateBody, "api.CreateRequest")


def _source(text: str) -> ModelName:
    """The model that another is made from."""
    try:
        return ModelName.parse(local_name(text))
    except InvalidRequest:
        raise InvalidName(text) from None


def _files(given: Mapping[str, str] | None) -> FileMap | None:
    return None if given is None else {name: Digest.parse(digest) for name, digest in given.items()}


def _licenses(value: Any) -> tuple[str, ...]:
    """A text or a list of texts; an empty text is none."""
    if isinstance(value, str):
        return (value,) if value else ()
    return decode_as(list_of(STRING), value)


def _stored(message: Message) -> StoredMessage:
    calls = (
        StoredCall(id=call.id, function=StoredFunction(call.index, call.name, call.arguments))
        for call in message.tool_calls
    )
    return StoredMessage(
        message.role,
        message.content,
        message.thinking,
        message.images,
        tuple(calls),
        message.tool_name,
        message.tool_call_id,
    )
