"""Request bodies of `/v1/*`: so far what is needed to refuse a wrong one."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from server.http.body import FIRST_ERROR, Body, BodyRoute, go_list
from server.ollama.fields import Int, KeepAlive, Options


class Route(BodyRoute):
    """A route of `/v1/*`."""

    empty = "EOF"


class ChatCompletionBody(Body):
    """`POST /v1/chat/completions`."""

    go: ClassVar[str] = "openai.ChatCompletionRequest"

    model: str = ""
    messages: Annotated[list[Any], FIRST_ERROR, go_list("[]openai.Message", None)] = Field(default_factory=list)
    stream: bool = False


class CompletionBody(Body):
    """`POST /v1/completions`."""

    go: ClassVar[str] = "openai.CompletionRequest"

    model: str = ""
    prompt: Any = None
    stream: bool = False


class EmbeddingBody(Body):
    """`POST /v1/embeddings`."""

    go: ClassVar[str] = "openai.EmbedRequest"

    model: str = ""
    input: Any = None
    dimensions: Int = 0
    encoding_format: str = ""
    options: Options = Field(default_factory=dict)
    keep_alive: KeepAlive = None


class ResponsesBody(Body):
    """`POST /v1/responses`."""

    go: ClassVar[str] = "openai.ResponsesRequest"

    model: str = ""
    input: Any = None
    stream: bool = False
