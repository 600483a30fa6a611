"""The messages that a model's conversations start with, as they are stored."""

from __future__ import annotations

from typing import Any

import msgspec


class StoredFunction(msgspec.Struct, frozen=True):
    """What a tool call calls."""

    index: int
    name: str
    arguments: dict[str, Any]


class StoredCall(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool call of the assistant."""

    id: str = ""
    function: StoredFunction


class StoredMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message; its fields stand in the order of the file."""

    role: str
    content: str
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[StoredCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
