"""The body of `POST /api/create`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from engine.errors import InvalidRequest
from engine.names import local_name
from modelfile.create import CreateRequest, FileMap, check_names
from registry.names import Digest, InvalidName, ModelName
from server.http.body import describe, go_text, text_map
from server.http.errors import InvalidBody
from server.ollama.fields import Messages, Options
from server.ollama.schemas import Named

TextMap = Annotated[dict[str, str], BeforeValidator(text_map)]


class CreateBody(Named):
    """`POST /api/create`. Old clients send `modelfile` or `path` instead of the other fields."""

    go: ClassVar[str] = "api.CreateRequest"

    stream: bool = True
    modelfile: str = ""
    path: str = ""
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    from_: str = Field(default="", alias="from")
    remote_host: str = ""
    files: TextMap | None = None
    draft_files: TextMap | None = None
    adapters: TextMap | None = None
    template: str = ""
    license: Any = None
    system: str = ""
    parameters: Options = Field(default_factory=dict)
    messages: Messages = Field(default_factory=list)
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Options = Field(default_factory=dict)

    @property
    def is_old(self) -> bool:
        """Whether it has the form of old clients, with a Modelfile."""
        return bool(self.modelfile or self.path)

    def request(self) -> CreateRequest:
        """The model to create. Raises InvalidName, InvalidDigest, CloudModel, CreateError, InvalidBody (license)."""
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
            messages=tuple(message.message() for message in self.messages),
            renderer=self.renderer,
            parser=self.parser,
            requires=self.requires,
            info=self.info,
        )


def _source(text: str) -> ModelName:
    """The name of the base model. Raises InvalidName or CloudModel."""
    try:
        return ModelName.parse(local_name(text))
    except InvalidRequest:
        raise InvalidName(text) from None


def _files(digests: Mapping[str, str] | None) -> FileMap | None:
    return None if digests is None else {name: Digest.parse(digest) for name, digest in digests.items()}


def _licenses(value: Any) -> tuple[str, ...]:
    """The licenses: a text or a list of texts; "" means none. Raises InvalidBody."""
    if isinstance(value, str):
        return (value,) if value else ()
    if value is not None and not isinstance(value, list):
        raise InvalidBody(go_text(describe(value, "[]string"), "", "[]string"))
    for item in value or ():
        if item is not None and not isinstance(item, str):
            raise InvalidBody(go_text(describe(item, "string"), "", "string"))
    return tuple(item or "" for item in value or ())
