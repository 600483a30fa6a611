"""Request bodies of `/v1/*`: so far what is needed to refuse a wrong one."""

# ruff: noqa: RUF009 - `member` makes the dataclass fields; nothing mutable is shared

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.gotypes import ANY, BOOL, INT, STRING, list_of, member, struct
from server.ollama.fields import KEEP_ALIVE
from server.ollama.schemas import OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletionBody:
    """`POST /v1/chat/completions`."""

    model: str = member(STRING)
    messages: tuple[Any, ...] = member(list_of(ANY, "[]openai.Message"))
    stream: bool = member(BOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionBody:
    """`POST /v1/completions`."""

    model: str = member(STRING)
    prompt: Any = member(ANY)
    stream: bool = member(BOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBody:
    """`POST /v1/embeddings`."""

    model: str = member(STRING)
    input: Any = member(ANY)
    dimensions: int = member(INT)
    encoding_format: str = member(STRING)
    options: Mapping[str, Any] = member(OPTIONS)
    keep_alive: float | None = member(KEEP_ALIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesBody:
    """`POST /v1/responses`."""

    model: str = member(STRING)
    input: Any = member(ANY)
    stream: bool = member(BOOL)


CHAT_COMPLETION = struct(ChatCompletionBody, "openai.ChatCompletionRequest")
COMPLETION = struct(CompletionBody, "openai.CompletionRequest")
EMBEDDING = struct(EmbeddingBody, "openai.EmbedRequest")
RESPONSES = struct(ResponsesBody, "openai.ResponsesRequest")
