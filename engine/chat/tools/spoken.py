"""Calls as JSON objects: the many ways in which models spell a name and its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.chat.tools.calls import Unreadable
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.jsontext import parse
from engine.requests import ToolCall

_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")


class NotACall(Unreadable):
    """Valid JSON, but no call of a function."""


def read_call(value: dict[str, Any]) -> ToolCall:
    """The call that an object with a name spells; without arguments it has none. Raises Unreadable."""
    if not (name := name_of(value)):
        raise NotACall("empty function name")
    arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    return ToolCall(name, as_arguments(arguments))


def read_calls(value: Any, tools: Toolbox) -> list[ToolCall]:
    """The calls in a JSON value: `{name, arguments}`, `{tool: arguments}`, or either of them further inside.

    Raises Unreadable when there is none.
    """
    if isinstance(value, dict) and name_of(value):
        return [read_call(value)]
    if isinstance(value, dict) and (named := [name for name in value if name in tools]):
        return [ToolCall(name, as_arguments(value[name])) for name in named]
    calls = [call for child in _children(value) for call in _calls_inside(child, tools)]
    if not calls:
        raise NotACall("empty function name")
    return calls


def name_of(value: dict[str, Any]) -> str:
    """The function's name in an object that spells a call, or ""."""
    return next((name for key in _NAME_KEYS if isinstance(name := value.get(key), str) and name), "")


def has_arguments(value: dict[str, Any]) -> bool:
    """Whether an object that spells a call says something about arguments."""
    return any(key in value for key in _ARGUMENT_KEYS)


def as_arguments(value: Any) -> dict[str, Any]:
    """Arguments as an object; a text may hold it, nothing is an empty one. Raises Unreadable for anything else."""
    if isinstance(value, str):
        value = parse(value or "{}")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotACall("arguments are not an object")
    return value


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _calls_inside(value: Any, tools: Toolbox) -> list[ToolCall]:
    try:
        return read_calls(value, tools)
    except Unreadable:
        return []
