"""Requests of `/v1/messages`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from modelfile.text import cut, quote
from server.anthropic.answers import AnthropicError
from server.anthropic.blocks import Content
from server.anthropic.tools import ToolChoiceBody, ToolParam
from server.http.body import FIRST_ERROR, Body, BodyRoute, go_list
from server.http.openapi import Responses, errors
from server.ollama.fields import Int, KeepAlive, Options, Texts, at_most

ERRORS: Responses = errors(AnthropicError)
_ROLES = ("user", "assistant", "system")
_THINKING = ("enabled", "disabled", "adaptive")


class Route(BodyRoute):
    """A route of `/v1/messages`."""

    empty = "EOF"


class TurnBody(Body):
    """One message of a conversation."""

    go: ClassVar[str] = "anthropic.MessageParam"

    role: str = ""
    content: Content | None = None

    @model_validator(mode="after")
    def _known_role(self) -> TurnBody:
        if self.role not in _ROLES:
            raise ValueError(f'invalid role: {quote(cut(self.role))} (must be "user", "assistant" or "system")')
        return self


class ThinkingConfig(Body):
    """Whether the model is to reason. `budget_tokens`: for how long."""

    go: ClassVar[str] = "anthropic.ThinkingConfig"

    type: str = ""
    budget_tokens: Int | None = None
    display: str = ""

    @model_validator(mode="after")
    def _complete(self) -> ThinkingConfig:
        if self.type not in _THINKING:
            *others, last = map(quote, _THINKING)
            allowed = f"{', '.join(others)} or {last}"
            raise ValueError(f"invalid thinking.type: {quote(cut(self.type))} (must be {allowed})")
        if self.type == "enabled" and self.budget_tokens is None:
            raise ValueError("thinking.budget_tokens is required")
        if self.budget_tokens is not None and self.budget_tokens <= 0:
            raise ValueError("thinking.budget_tokens must be positive")
        return self


class OutputFormat(Body):
    """A schema that the answer is to match."""

    go: ClassVar[str] = "anthropic.OutputFormat"

    type: str = ""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _complete(self) -> OutputFormat:
        if self.type != "json_schema":
            raise ValueError(f'invalid output format type: {quote(cut(self.type))} (must be "json_schema")')
        if self.schema_ is None:
            raise ValueError("output format missing required 'schema' field")
        return self


class OutputConfig(Body):
    """How much the model reasons, and the form of its answer."""

    go: ClassVar[str] = "anthropic.OutputConfig"

    effort: str = ""
    format: OutputFormat | None = None

    @model_validator(mode="after")
    def _known_effort(self) -> OutputConfig:
        if self.effort not in ("", "low", "medium", "high", "xhigh", "max"):
            allowed = '"low", "medium", "high", "xhigh" or "max"'
            raise ValueError(f"invalid output_config.effort: {quote(cut(self.effort))} (must be {allowed})")
        return self


Messages = Annotated[list[TurnBody], FIRST_ERROR, at_most("messages"), go_list("[]anthropic.MessageParam", {})]
Tools = Annotated[list[ToolParam], FIRST_ERROR, at_most("tools"), go_list("[]anthropic.Tool", {})]


class PromptBody(Body):
    """`POST /v1/messages/count_tokens`: what makes a prompt."""

    go: ClassVar[str] = "anthropic.CountTokensRequest"

    model: str = ""
    messages: Messages = Field(default_factory=list)
    system: Content = Field(default_factory=list)
    tools: Tools = Field(default_factory=list)
    tool_choice: ToolChoiceBody = Field(default_factory=ToolChoiceBody)
    thinking: ThinkingConfig = Field(default_factory=ThinkingConfig.model_construct)  # as if not sent
    output_config: OutputConfig = Field(default_factory=OutputConfig)
    output_format: OutputFormat | None = None
    cache_control: dict[str, Any] | None = None
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)
    num_ctx: Int | None = None
    truncate: bool = False

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        if field == "format":
            return "output_format" if self.output_config.format is None else "output_config.format"
        return field


class MessagesBody(PromptBody):
    """`POST /v1/messages`."""

    go: ClassVar[str] = "anthropic.MessagesRequest"

    max_tokens: Int = 0
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    stop_sequences: Texts | None = None
