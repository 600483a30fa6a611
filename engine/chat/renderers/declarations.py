"""The JSON in which most families show tools to the model."""

from __future__ import annotations

from collections.abc import Sequence

from engine.chat import definitions
from engine.chat.definitions import Json
from engine.chat.renderers.jsontext import compact, free, spaced, spaced_markup
from modelfile.conversation import Property, Tool


def tool_json(tool: Tool) -> Json:
    """A whole definition."""
    items = {} if tool.items is None else {"items": free(tool.items)}
    description = {"description": tool.description} if tool.description else {}
    function = {"name": tool.name, **description, "parameters": parameters_json(tool)}
    return {"type": tool.type, **items, "function": function}


def parameters_json(tool: Tool) -> Json:
    """The schema of a function's arguments; `properties` is null if it declares none at all."""
    return definitions.parameters_json(tool, free)


def property_json(schema: Property) -> Json:
    """The schema of one argument."""
    return definitions.property_json(schema, free)


def parameters_markup(tool: Tool) -> str:
    """The schema of a function's arguments with `<`, `>` and `&` as they are, but not inside of its properties."""
    properties = None if tool.properties is None else definitions.properties_json(tool.properties, free)
    return f'{spaced_markup(definitions.parameters_head(tool, free))[:-1]}, "properties": {spaced(properties)}}}'


def types_text(types: Sequence[str]) -> str:
    """The name of a single type, or a JSON list of several."""
    return types[0] if len(types) == 1 else compact(list(types))
