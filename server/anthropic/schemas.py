"""Requests and errors of `/v1/messages`, with only the fields that are checked so far."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from server.http.body import FIRST_ERROR, Body, BodyRoute, go_list
from server.http.openapi import AnswerObject, Responses, errors
from server.ollama.fields import Int


class Route(BodyRoute):
    """A route of `/v1/messages`."""

    empty = "EOF"


class MessagesBody(Body):
    """`POST /v1/messages`."""

    go: ClassVar[str] = "anthropic.MessagesRequest"

    model: str = ""
    max_tokens: Int = 0
    messages: Annotated[list[Any], FIRST_ERROR, go_list("[]anthropic.MessageParam", None)] = Field(default_factory=list)
    stream: bool = False


class ErrorCause(AnswerObject):
    """Kind and text of an error."""

    type: str
    message: str


class AnthropicError(AnswerObject):
    """An error."""

    type: Literal["error"]
    error: ErrorCause
    request_id: str


ERRORS: Responses = errors(AnthropicError)
