"""Request bodies of `/api/*`. `name` is accepted for `model` everywhere; `model` wins."""

# ruff: noqa: RUF009 - `member` makes the dataclass fields; nothing mutable is shared

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.api import ChatRequest, GenerateRequest, Message, Think, ToolChoice
from server.gotypes import ANY, BOOL, INT, STRING, list_of, map_of, member, struct
from server.ollama.fields import FORMAT, IMAGES, KEEP_ALIVE, MESSAGES, THINK, TOOL_CHOICE, TOOLS, Tool

OPTIONS = map_of(ANY, "map[string]interface {}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A body that names a model."""

    model: str = member(STRING)
    name: str = member(STRING)

    @property
    def model_name(self) -> str:
        """The name as it was sent."""
        return self.model or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inference(Named):
    stream: bool = member(BOOL, default=True)
    format: str | None = member(FORMAT)
    keep_alive: float | None = member(KEEP_ALIVE)
    options: Mapping[str, Any] = member(OPTIONS)
    think: Think | None = member(THINK)
    truncate: bool = member(BOOL, default=True)
    shift: bool | None = member(BOOL, default=None)
    logprobs: bool = member(BOOL)
    top_logprobs: int = member(INT)
    debug_render_only: bool = member(BOOL, "_debug_render_only")

    def shared(self) -> dict[str, Any]:
        """The engine request's fields that generate and chat have in common."""
        return {
            "model": self.model_name,
            "options": dict(self.options),
            "keep_alive": self.keep_alive,
            "think": self.think,
            "format": self.format,
            "truncate": self.truncate,
            "shift": self.shift,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateBody(_Inference):
    """`POST /api/generate`."""

    prompt: str = member(STRING)
    suffix: str = member(STRING)
    system: str = member(STRING)
    template: str = member(STRING)
    context: tuple[int, ...] | None = member(list_of(INT), default=None)
    raw: bool = member(BOOL)
    images: tuple[bytes, ...] = member(IMAGES)

    def request(self) -> GenerateRequest:
        """What the engine is asked."""
        return GenerateRequest(
            **self.shared(),
            prompt=self.prompt,
            suffix=self.suffix,
            system=self.system,
            template=self.template,
            raw=self.raw,
            context=None if self.context is None else list(self.context),
            images=self.images,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBody(_Inference):
    """`POST /api/chat`."""

    messages: tuple[Message, ...] = member(MESSAGES)
    tools: tuple[Tool, ...] = member(TOOLS)
    tool_choice: ToolChoice = member(TOOL_CHOICE)

    def request(self) -> ChatRequest:
        """What the engine is asked."""
        return ChatRequest(
            **self.shared(),
            messages=list(self.messages),
            tools=[tool.as_dict() for tool in self.tools],
            tool_choice=self.tool_choice,
            schemas={tool.function.name: tool.function.parameters.sent for tool in self.tools},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedBody(Named):
    """`POST /api/embed`."""

    input: Any = member(ANY)
    truncate: bool = member(BOOL, default=True)
    dimensions: int = member(INT)
    keep_alive: float | None = member(KEEP_ALIVE)
    options: Mapping[str, Any] = member(OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsBody(Named):
    """`POST /api/embeddings`."""

    prompt: str = member(STRING)
    keep_alive: float | None = member(KEEP_ALIVE)
    options: Mapping[str, Any] = member(OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowBody(Named):
    """`POST /api/show`."""

    system: str = member(STRING)
    template: str = member(STRING)
    verbose: bool = member(BOOL)
    options: Mapping[str, Any] = member(OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBody:
    """`POST /api/copy`."""

    source: str = member(STRING)
    destination: str = member(STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBody(Named):
    """`POST /api/pull` and `/api/push`."""

    insecure: bool = member(BOOL)
    username: str = member(STRING)
    password: str = member(STRING)
    stream: bool = member(BOOL, default=True)


GENERATE = struct(GenerateBody, "api.GenerateRequest")
CHAT = struct(ChatBody, "api.ChatRequest")
EMBED = struct(EmbedBody, "api.EmbedRequest")
EMBEDDINGS = struct(EmbeddingsBody, "api.EmbeddingRequest")
SHOW = struct(ShowBody, "api.ShowRequest")
COPY = struct(CopyBody, "api.CopyRequest")
DELETE = struct(Named, "api.DeleteRequest")
PULL = struct(TransferBody, "api.PullRequest")
PUSH = struct(TransferBody, "api.PushRequest")
