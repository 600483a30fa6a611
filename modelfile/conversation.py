"""The types of a conversation that every room shares: messages, tool calls, tools and the schemas of their arguments.

Plain data. A request's JSON becomes these types once, at the server's edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. `arguments` is a JSON object, in the order in which the model wrote it."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; the role in lower case."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Property:
    """The schema of one argument of a tool: the keys of JSON Schema that templates see.

    `items` and the values of `enum` may be any JSON.
    """

    any_of: Sequence[Property] = ()
    type: Sequence[str] = ()
    items: Any = None
    description: str = ""
    enum: Sequence[Any] = ()
    properties: Mapping[str, Property] | None = None
    required: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. Everything but the name may be missing.

    `sent` is the schema of the parameters as the client sent it, with all of its keys: what calls are held to. The
    other fields are what templates see. `items`, `parameters_items` and `defs` may be any JSON.
    """

    name: str = ""
    description: str = ""
    type: str = ""
    items: Any = None
    parameters_type: str = ""
    parameters_items: Any = None
    defs: Any = None
    required: Sequence[str] = ()
    properties: Mapping[str, Property] | None = None
    sent: Json = field(default_factory=dict)
