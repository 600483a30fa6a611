"""Content blocks of requests. Blocks of unknown types are read as `OtherBlock`, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from modelfile.text import cut
from server.http.base64_text import decode_base64
from server.http.body import FIRST_ERROR, Body, go_list


class _Block(Body):
    """What all blocks may have. `cache_control` changes no prompt: whatever can be reused of one is reused anyway."""

    go: ClassVar[str] = "anthropic.ContentBlock"

    cache_control: dict[str, Any] | None = None


class TextBlock(_Block):
    """Text."""

    type: Literal["text"] = "text"
    text: str = ""

    @model_validator(mode="after")
    def _complete(self) -> TextBlock:
        if "text" not in self.model_fields_set:
            raise ValueError("text block missing required 'text' field")
        return self


class ImageSource(Body):
    """An image in base64."""

    go: ClassVar[str] = "anthropic.ImageSource"

    type: str = ""
    media_type: str = ""
    data: str = ""
    _image: bytes = PrivateAttr(default=b"")

    @property
    def image(self) -> bytes:
        """The image's file."""
        return self._image

    @model_validator(mode="after")
    def _decoded(self) -> ImageSource:
        """Decode here, because large bodies are read off the event loop."""
        if self.type != "base64":
            raise ValueError(f"invalid image source type: {cut(self.type)}. Only base64 images are supported.")
        try:
            self._image = decode_base64(self.data)
        except ValueError as error:
            raise ValueError(f"invalid base64 image data: {error}") from None
        return self


class ImageBlock(_Block):
    """An image."""

    type: Literal["image"] = "image"
    source: ImageSource | None = None

    @model_validator(mode="after")
    def _complete(self) -> ImageBlock:
        if self.source is None:
            raise ValueError("invalid image source")
        return self


class DocumentSource(Body):
    """The text of a document: `data`, or the text blocks of `content`."""

    go: ClassVar[str] = "anthropic.DocumentSource"

    type: str = ""
    data: str = ""
    content: Content = Field(default_factory=list)

    @model_validator(mode="after")
    def _supported(self) -> DocumentSource:
        if self.type not in ("text", "content"):
            kind = cut(self.type)
            raise ValueError(f"invalid document source type: {kind}. Only text and content documents are supported.")
        return self


class DocumentBlock(_Block):
    """A document that is text."""

    type: Literal["document"] = "document"
    title: str = ""
    context: str = ""
    source: DocumentSource | None = None

    @model_validator(mode="after")
    def _complete(self) -> DocumentBlock:
        if self.source is None:
            raise ValueError("invalid document source")
        return self


class SearchResultBlock(_Block):
    """A passage that the client has found, and where."""

    type: Literal["search_result"] = "search_result"
    title: str = ""
    source: str = ""
    content: Content = Field(default_factory=list)


class ThinkingBlock(_Block):
    """Reasoning of an earlier answer. Any signature is accepted."""

    type: Literal["thinking"] = "thinking"
    thinking: str = ""
    signature: str = ""


class CallBlock(_Block):
    """A call in an earlier answer."""

    id: str | None = None
    name: str | None = None
    input: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call."""
        return self.input or {}


class ToolUseBlock(CallBlock):
    """A call of one of the client's tools."""

    type: Literal["tool_use"] = "tool_use"

    @model_validator(mode="after")
    def _complete(self) -> ToolUseBlock:
        for name in ("id", "name"):
            if getattr(self, name) is None:
                raise ValueError(f"tool_use block missing required '{name}' field")
        if not isinstance(self.input, dict | None):
            raise ValueError("tool_use block's 'input' must be an object")
        return self


class ServerToolUseBlock(CallBlock):
    """A call of a tool that the server was to run."""

    type: Literal["server_tool_use"] = "server_tool_use"
    input: dict[str, Any] | None = None


class ToolResultBlock(_Block):
    """The result of a call."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str = ""
    content: Content = Field(default_factory=list)
    is_error: bool = False


class WebSearchResult(Body):
    """A page that a search has found."""

    go: ClassVar[str] = "anthropic.WebSearchResult"

    title: str = ""
    url: str = ""


class WebSearchError(Body):
    """Why a search has failed."""

    go: ClassVar[str] = "anthropic.WebSearchToolResultError"

    error_code: str = ""


def _found_or_error(value: Any) -> Any:
    return "error" if isinstance(value, dict | WebSearchError) else "pages"


_Pages = Annotated[list[WebSearchResult], FIRST_ERROR, go_list("[]anthropic.WebSearchResult", {})]


class WebSearchResultBlock(_Block):
    """What a search of the server has found."""

    type: Literal["web_search_tool_result"] = "web_search_tool_result"
    tool_use_id: str = ""
    content: Annotated[
        Annotated[_Pages, Tag("pages")] | Annotated[WebSearchError, Tag("error")], Discriminator(_found_or_error)
    ] = Field(default_factory=list)


class OtherBlock(_Block):
    """A block of another type, which is ignored."""

    type: str = ""

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, value: Any) -> Any:
        if isinstance(value, dict) and not isinstance(_type_of(value), str):
            raise ValueError("content block missing required 'type' field")
        return value


_KINDS = (
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "tool_use",
    "server_tool_use",
    "tool_result",
    "web_search_tool_result",
)


def _type_of(value: dict[str, Any]) -> Any:
    return next((item for key, item in value.items() if key.lower() == "type"), None)


def _kind(value: Any) -> str:
    kind = _type_of(value) if isinstance(value, dict) else getattr(value, "type", None)
    return kind if kind in _KINDS else "other"


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[SearchResultBlock, Tag("search_result")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ServerToolUseBlock, Tag("server_tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[WebSearchResultBlock, Tag("web_search_tool_result")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(_kind),
]


def _as_blocks(value: Any) -> Any:
    """A text as the block that it stands for."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[
    list[Block],
    FIRST_ERROR,
    go_list("[]anthropic.ContentBlock", None),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block]),
]
"""A text or a list of blocks."""

for _model in (DocumentSource, SearchResultBlock, ToolResultBlock):
    _model.model_rebuild()


def text_of(blocks: Iterable[Block]) -> str:
    """The text of a message's or result's blocks."""
    return "".join(_text(block) for block in blocks)


def _text(block: Block) -> str:
    match block:
        case TextBlock(text=text):
            return text
        case DocumentBlock(title=title, context=context, source=DocumentSource(data=data, content=content)):
            return _passage(title, context, data or text_of(content))
        case SearchResultBlock(title=title, source=source, content=content):
            return _passage(title, source, text_of(content))
    return ""


def _passage(*parts: str) -> str:
    """A text with its title and origin, set off from the text around it."""
    return "\n".join(part for part in parts if part) + "\n\n"


def images_of(blocks: Iterable[Block]) -> tuple[bytes, ...]:
    """The images among the blocks."""
    return tuple(block.source.image for block in blocks if isinstance(block, ImageBlock) and block.source is not None)
