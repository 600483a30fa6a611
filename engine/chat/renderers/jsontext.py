"""JSON inside of prompts, printed byte for byte as Ollama's renderers do; the JSON of tools and of their calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.api import ToolCall
from engine.chat import tool_definitions
from engine.chat.tool_definitions import Json
from modelfile.conversation import Property, Tool
from modelfile.text import shortest_float
from registry import blob_json

_EXACT = 2**53  # beyond this Go's float64 no longer holds every integer
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_SEPARATOR = re.compile(rf"{_STRING}|[:,]")
_TOKEN = re.compile(rf"{_STRING}|\{{\}}|\[\]|[{{}}\[\]:,]|[^{{}}\[\]:,\"]+")
_ESCAPE = re.compile(r"\\(u003c|u003e|u0026|.)")
_HTML = {"u003c": "<", "u003e": ">", "u0026": "&"}


def number(value: float) -> float:
    """A number as float64; infinite if it is too large."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def free(value: Any) -> Any:
    """A JSON value as Go's encoder prints one of type `any`: keys sorted, numbers as float64."""
    if isinstance(value, dict):
        return {key: free(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [free(item) for item in value]
    if isinstance(value, int) and abs(value) > _EXACT:
        return number(value)
    return value


def compact(value: Any) -> str:
    """JSON without spaces."""
    return blob_json.encode(value).decode()


def spaced(value: Any) -> str:
    """JSON with a space after every colon and comma, as Python's encoder writes it."""
    return _with_blanks(compact(value))


def spaced_markup(value: Any) -> str:
    """As `spaced`, with `<`, `>` and `&` not escaped."""
    return _with_blanks(_ESCAPE.sub(lambda match: _HTML.get(match[1], match[0]), compact(value)))


def indented(value: Any) -> str:
    """JSON on several lines, indented by four spaces."""
    return "".join(_on_lines(compact(value)))


def _with_blanks(text: str) -> str:
    return _SEPARATOR.sub(lambda match: f"{match[0]} " if match[0] in ":," else match[0], text)


def _on_lines(text: str) -> list[str]:
    depth, parts = 0, []
    for token in _TOKEN.findall(text):
        depth += (token in ("{", "[")) - (token in ("}", "]"))
        line = "\n" + "    " * depth
        if token in ("{", "[", ","):
            parts.append(token + line)
        elif token in ("}", "]"):
            parts.append(line + token)
        else:
            parts.append(": " if token == ":" else token)
    return parts


def arguments_json(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call in their order; keys inside of their values are sorted."""
    return {name: free(value) for name, value in call.arguments.items()}


def sorted_arguments(call: ToolCall) -> list[tuple[str, Any]]:
    """The arguments of a call, sorted by name."""
    return sorted(call.arguments.items(), key=lambda pair: pair[0])


def is_composite(value: Any) -> bool:
    """Whether a value is an object or a list."""
    return isinstance(value, dict | list | tuple)


def scalar_text(value: Any) -> str:
    """A string as it is, a number as Go prints it (a million is `1e+06`), `true` or `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return shortest_float(number(value))
    return str(value)


def text_or_json(value: Any) -> str:
    """A string as it is, all else as JSON."""
    return value if isinstance(value, str) else compact(free(value))


# Tools, as most families show them to the model.


def tool_json(tool: Tool) -> Json:
    """A tool's whole definition: type, name, description, parameters."""
    items = {} if tool.items is None else {"items": free(tool.items)}
    description = {"description": tool.description} if tool.description else {}
    function = {"name": tool.name, **description, "parameters": parameters_json(tool)}
    return {"type": tool.type, **items, "function": function}


def parameters_json(tool: Tool) -> Json:
    """The schema of a function's arguments, written as Go does (see `free`)."""
    return tool_definitions.parameters_json(tool, free)


def property_json(schema: Property) -> Json:
    """The schema of one argument, written as Go does (see `free`)."""
    return tool_definitions.property_json(schema, free)


def parameters_markup(tool: Tool) -> str:
    """The schema of a function's arguments with `<`, `>` and `&` as they are, but not inside of its properties."""
    properties = None if tool.properties is None else tool_definitions.properties_json(tool.properties, free)
    return f'{spaced_markup(tool_definitions.parameters_head(tool, free))[:-1]}, "properties": {spaced(properties)}}}'


def types_text(types: Sequence[str]) -> str:
    """The name of a single type, or a JSON list of several."""
    return types[0] if len(types) == 1 else compact(list(types))
