"""Requests and answers of `/v1/*`. Routes that are not supported yet have only the fields that they check."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from server.http.body import FIRST_ERROR, Body, BodyRoute, go_list
from server.http.openapi import AnswerObject, Responses, errors
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


class ModelObject(AnswerObject):
    """A stored model. `created` is in Unix seconds."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(AnswerObject):
    """The stored models, newest first."""

    object: Literal["list"]
    data: list[ModelObject]


class EmbeddingObject(AnswerObject):
    """The vector of one text: numbers, or float32 in base64."""

    object: Literal["embedding"]
    embedding: list[float] | str
    index: int


class EmbeddingUsage(AnswerObject):
    """Token counts of the texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(AnswerObject):
    """A vector for each text, in their order."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


class ErrorDetail(AnswerObject):
    """Text and kind of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(AnswerObject):
    """An error."""

    error: ErrorDetail


ERRORS: Responses = errors(OpenAIError)
