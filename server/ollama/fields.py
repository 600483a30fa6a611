"""What several request bodies hold: `keep_alive`, `think`, `format`, messages and tools."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.api import Message, NamedTool, Think, ToolCall, ToolChoice
from server.gojson import Object, plain
from server.gotext import parse_duration, quote
from server.gotypes import ANY, IMAGE, INT, STRING, Cursor, Kind, custom, decode_as, list_of, member, struct

# ruff: noqa: RUF009 - `member` makes the dataclass fields; nothing mutable is shared


_MALFORMED = "Value looks like object, but can't find closing '}' symbol"
_LEVELS = ("high", "medium", "low", "max")
_THINK_HELP = '"high", "medium", "low", "max", true, or false'
_LONGEST = (2**63 - 1) / 1e9  # seconds; what Go's duration holds


def parse_keep_alive(value: Any) -> float:
    """Seconds: a number, or a Go duration as text. Negative means forever, which is inf."""
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"Unsupported type: '{_go_type(value)}'")
    return math.inf if seconds < 0 or seconds > _LONGEST else seconds


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "map[string]interface {}" if isinstance(value, Object) else "[]interface {}"


def parse_think(value: Any) -> Think:
    """On, off, or a level."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"think must be a boolean or string ({_THINK_HELP})")
    if value not in _LEVELS:
        raise ValueError(f"invalid think value: {quote(value)} (must be {_THINK_HELP})")
    return value  # type: ignore[return-value]  # one of the literals, as just checked


def parse_format(value: Any) -> str | None:
    """The constraint as JSON text, keys in the order of the request; an empty text is none at all."""
    return None if value == "" else json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


KEEP_ALIVE: Kind[float | None] = custom("api.Duration", None, parse_keep_alive)
THINK: Kind[Think | None] = custom("api.ThinkValue", None, parse_think)
FORMAT: Kind[str | None] = custom("json.RawMessage", None, parse_format)
IMAGES = list_of(IMAGE, "[]api.ImageData")


def _parse_arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, Object):
        raise ValueError(_MALFORMED)
    return {key: plain(item) for key, item in value}


_ARGUMENTS: Kind[dict[str, Any]] = custom("api.ToolCallFunctionArguments", {}, _parse_arguments)


@dataclass(frozen=True, slots=True)
class _Function:
    index: int = member(INT)
    name: str = member(STRING)
    arguments: dict[str, Any] = member(_ARGUMENTS)


@dataclass(frozen=True, slots=True)
class _Call:
    id: str = member(STRING)
    function: _Function = member(struct(_Function, "api.ToolCallFunction"))


@dataclass(frozen=True, slots=True)
class _Message:
    role: str = member(STRING)
    content: str = member(STRING)
    thinking: str = member(STRING)
    images: tuple[bytes, ...] = member(IMAGES)
    tool_calls: tuple[_Call, ...] = member(list_of(struct(_Call, "api.ToolCall"), "[]api.ToolCall"))
    tool_name: str = member(STRING)
    tool_call_id: str = member(STRING)


_ALIAS = struct(_Message, "api.Alias")


def parse_message(value: Any) -> Message:
    """One message; the role in lower case, otherwise as it is."""
    raw = decode_as(_ALIAS, value)
    return Message(
        role=raw.role.lower(),
        content=raw.content,
        thinking=raw.thinking,
        images=raw.images,
        tool_calls=tuple(
            ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
            for call in raw.tool_calls
        ),
        tool_name=raw.tool_name,
        tool_call_id=raw.tool_call_id,
    )


MESSAGES = list_of(custom("api.Message", Message(role=""), parse_message), "[]api.Message")


def _parse_type(value: Any) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else decode_as(list_of(STRING), value)


def _parse_properties(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Object):
        raise ValueError(_MALFORMED)
    return {name: decode_as(_PROPERTY, item).as_dict() for name, item in value}


def _parse_any_of(value: Any) -> list[dict[str, Any]]:
    return [item.as_dict() for item in decode_as(list_of(_PROPERTY, "[]api.ToolProperty"), value)]


_ANY_OF: Kind[list[dict[str, Any]] | None] = custom("[]api.ToolProperty", None, _parse_any_of)
_PROPERTY_TYPE: Kind[str | tuple[str, ...]] = custom("api.PropertyType", (), _parse_type)
_PROPERTIES: Kind[dict[str, dict[str, Any]] | None] = custom("api.ToolPropertiesMap", None, _parse_properties)


@dataclass(frozen=True, slots=True)
class _Property:
    anyOf: Any = member(_ANY_OF)
    type: str | tuple[str, ...] = member(_PROPERTY_TYPE)
    items: Any = member(ANY)
    description: str = member(STRING)
    enum: tuple[Any, ...] = member(list_of(ANY, "[]interface {}"))
    properties: dict[str, dict[str, Any]] | None = member(_PROPERTIES)
    required: tuple[str, ...] = member(list_of(STRING))

    def as_dict(self) -> dict[str, Any]:
        """As a template sees it: known keys in the order above, empty ones left out."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: _listed(value) for name, value in found.items() if value not in (None, "", (), [])}


_PROPERTY = struct(_Property, "api.ToolProperty")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class _Parameters:
    type: str = member(STRING)
    defs: Any = member(ANY, "$defs")
    items: Any = member(ANY)
    required: tuple[str, ...] = member(list_of(STRING))
    properties: dict[str, dict[str, Any]] | None = member(_PROPERTIES)

    def as_dict(self) -> dict[str, Any]:
        """`type` and `properties` always, the others where they are given."""
        optional = {"$defs": self.defs, "items": self.items, "required": list(self.required)}
        given = {name: value for name, value in optional.items() if value not in (None, [])}
        return {"type": self.type, **given, "properties": self.properties}


@dataclass(frozen=True, slots=True)
class _Schema:
    """The parameters of a tool as the API knows them, and as they were sent."""

    known: _Parameters
    sent: Any


_KNOWN = struct(_Parameters, "api.ToolFunctionParameters")


def _read_schema(value: Any, at: Cursor) -> _Schema | None:
    known = _KNOWN.read(value, at)
    return None if known is None else _Schema(known, plain(value))


_SCHEMA = Kind("api.ToolFunctionParameters", _Schema(_KNOWN.zero, {}), _read_schema)


@dataclass(frozen=True, slots=True)
class _ToolFunction:
    name: str = member(STRING)
    description: str = member(STRING)
    parameters: _Schema = member(_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Tool:
    type: str = member(STRING)
    items: Any = member(ANY)
    function: _ToolFunction = member(struct(_ToolFunction, "api.ToolFunction"))

    def as_dict(self) -> dict[str, Any]:
        """The definition as a template sees it; what the API does not know is gone."""
        items = {} if self.items is None else {"items": self.items}
        function = {
            "name": self.function.name,
            "description": self.function.description,
            "parameters": self.function.parameters.known.as_dict(),
        }
        return {"type": self.type, **items, "function": function}


TOOLS = list_of(struct(_Tool, "api.Tool"), "api.Tools")
Tool = _Tool


# `tool_choice`, in the shape that OpenAI gave it.

_HELP = '"auto", "none", "required" or {"type":"function","function":{"name":…}}'
_WORDS: Mapping[str, ToolChoice] = {"": "auto", "auto": "auto", "none": "none", "required": "required"}


def parse_tool_choice(value: Any) -> ToolChoice:
    """A word, or the function that must be called; an empty text is as none given. Raises ValueError."""
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    match plain(value):
        case {"type": "function", "function": {"name": str(name)}}:
            return NamedTool(name)
    raise ValueError(f"invalid tool_choice: {json.dumps(plain(value), ensure_ascii=False)} (must be {_HELP})")


TOOL_CHOICE: Kind[ToolChoice] = custom("api.ToolChoice", "auto", parse_tool_choice)
