"""Request body of `/v1/messages`: so far what is needed to refuse a wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.gotypes import ANY, BOOL, INT, STRING, list_of, member, struct


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesBody:
    """`POST /v1/messages`."""

    model: str = member(STRING)
    max_tokens: int = member(INT)
    messages: tuple[Any, ...] = member(list_of(ANY, "[]anthropic.MessageParam"))
    stream: bool = member(BOOL)


MESSAGES = struct(MessagesBody, "anthropic.MessagesRequest")
