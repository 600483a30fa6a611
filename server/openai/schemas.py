"""What the routes of `/v1/*` share, and the requests and answers of models and embeddings."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from server.http.body import Body, BodyRoute
from server.http.openapi import AnswerObject, Responses, errors
from server.ollama.fields import Int, KeepAlive, Options
from server.openai.token_input import Inputs


class Route(BodyRoute):
    """A route of `/v1/*`."""

    empty = "EOF"


class EmbeddingBody(Body):
    """`POST /v1/embeddings`."""

    go: ClassVar[str] = "openai.EmbedRequest"

    model: str = ""
    input: Inputs = Field(default_factory=list)
    dimensions: Int | None = None
    encoding_format: str = ""
    options: Options = Field(default_factory=dict)
    keep_alive: KeepAlive = None
    truncate: bool = True

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        return "input" if field in ("prompt", "tokens") else field


class StreamOptions(Body):
    """`stream_options`: whether the end of a stream has the token counts."""

    go: ClassVar[str] = "openai.StreamOptions"

    include_usage: bool = False


class PromptDetails(AnswerObject):
    """Of the tokens of the prompt, those that needed no computing."""

    cached_tokens: int


class CompletionDetails(AnswerObject):
    """Of the tokens of the answer, those that are reasoning."""

    reasoning_tokens: int


class Usage(AnswerObject):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails | None = None


class DebugInfo(AnswerObject):
    """The prompt that a request would run."""

    rendered_template: str
    image_count: int = 0


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


class ClaudeModel(AnswerObject):
    """A stored model in the format of Anthropic's API."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: datetime
    lifecycle: Literal["active"]


class ClaudeModelList(AnswerObject):
    """The stored models in the format of Anthropic's API, all on one page."""

    data: list[ClaudeModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


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
