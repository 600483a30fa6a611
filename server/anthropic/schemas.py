"""Requests and errors of `/v1/messages`: so far what is needed to refuse a wrong one."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from server.http.body import FIRST_ERROR, Body, BodyRoute, go_list
from server.http.documented import AnswerObject, Responses, errors
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
    """What kind of error it is, and its text."""

    type: str
    message: str


class AnthropicError(AnswerObject):
    """An error."""

    type: Literal["error"]
    error: ErrorCause
    request_id: str


ERRORS: Responses = errors(AnthropicError)
