"""Arguments of earlier calls, the ways in which families print one."""

from __future__ import annotations

from typing import Any

from engine.chat.renderers.jsontext import compact, free, number
from engine.requests import ToolCall
from modelfile.gotemplate.floats import format_float


def arguments_json(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call in their own order; what is inside of them is sorted."""
    return {name: free(value) for name, value in call.arguments.items()}


def sorted_arguments(call: ToolCall) -> list[tuple[str, Any]]:
    """The arguments of a call by name."""
    return sorted(call.arguments.items(), key=lambda pair: pair[0])


def is_composite(value: Any) -> bool:
    """Whether a value is an object or a list."""
    return isinstance(value, dict | list | tuple)


def scalar_text(value: Any) -> str:
    """A text as it is, a number as Go prints it (a million is `1e+06`), `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format_float(number(value), "g", None)
    return str(value)


def text_or_json(value: Any) -> str:
    """A text as it is, all else as JSON."""
    return value if isinstance(value, str) else compact(free(value))
