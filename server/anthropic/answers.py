"""Answers of `/v1/messages`, for the OpenAPI document: writers encode them by hand."""

from __future__ import annotations

from typing import Any, Literal

from server.http.openapi import AnswerObject


class TextAnswer(AnswerObject):
    """Text."""

    type: Literal["text"]
    text: str


class ThinkingAnswer(AnswerObject):
    """Reasoning. The signature is for Anthropic's clients, which send it back; it may be anything."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseAnswer(AnswerObject):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ServerToolUseAnswer(AnswerObject):
    """A call of a tool that the server is to run."""

    type: Literal["server_tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class WebSearchFailure(AnswerObject):
    """Why there is no result."""

    type: Literal["web_search_tool_result_error"]
    error_code: str


class WebSearchAnswer(AnswerObject):
    """The result of a web search: here there is none."""

    type: Literal["web_search_tool_result"]
    tool_use_id: str
    content: WebSearchFailure


class MessageUsage(AnswerObject):
    """Token counts. With `cache_control` in the request `input_tokens` are those that did not come from the cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageAnswer(AnswerObject):
    """An answer of the model."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextAnswer | ThinkingAnswer | ToolUseAnswer | ServerToolUseAnswer | WebSearchAnswer]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(AnswerObject):
    """The length of a prompt in tokens."""

    input_tokens: int


class ErrorCause(AnswerObject):
    """Kind and text of an error."""

    type: str
    message: str


class AnthropicError(AnswerObject):
    """An error."""

    type: Literal["error"]
    error: ErrorCause
    request_id: str
