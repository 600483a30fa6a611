"""Tools as renderers see them, and the JSON in which most families show them to the model.

What the API does not know is dropped, and so is what has the wrong type: a tool comes from a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.chat.renderers.jsontext import compact, free, spaced, spaced_markup
from modelfile.gotemplate import Property, Tool

Json = dict[str, Any]


def read_tool(given: Json) -> Tool:
    """A definition as requests carry it: `{"type": "function", "function": {"name": …, "parameters": {…}}}`."""
    function = _object(given.get("function"))
    parameters = _object(function.get("parameters"))
    return Tool(
        name=_text(function.get("name")),
        description=_text(function.get("description")),
        type=_text(given.get("type")),
        items=free(given.get("items")),
        parameters_type=_text(parameters.get("type")),
        parameters_items=free(parameters.get("items")),
        defs=free(parameters.get("$defs")),
        required=_texts(parameters.get("required")),
        properties=_properties(parameters.get("properties")),
    )


def tool_json(tool: Tool) -> Json:
    """A whole definition."""
    return _given({"type": tool.type, "items": tool.items, "function": _function_json(tool)})


def parameters_json(tool: Tool) -> Json:
    """The schema of a function's arguments; null, if it declares no properties at all."""
    properties = None if tool.properties is None else _properties_json(tool.properties)
    return {**_parameters_head(tool), "properties": properties}


def property_json(schema: Property) -> Json:
    """The schema of one argument."""
    types = list(schema.type)
    return _given(
        {
            "anyOf": [property_json(option) for option in schema.any_of] or None,
            "type": types[0] if len(types) == 1 else types or None,
            "items": schema.items,
            "description": schema.description or None,
            "enum": list(schema.enum) or None,
            "properties": None if schema.properties is None else _properties_json(schema.properties),
            "required": list(schema.required) or None,
        }
    )


def parameters_markup(tool: Tool) -> str:
    """The schema of a function's arguments with `<`, `>` and `&` as they are, but not inside of its properties."""
    properties = "null" if tool.properties is None else spaced(_properties_json(tool.properties))
    return f'{spaced_markup(_parameters_head(tool))[:-1]}, "properties": {properties}}}'


def types_text(types: tuple[str, ...]) -> str:
    """The name of a single type, or a JSON list of several."""
    return types[0] if len(types) == 1 else compact(list(types))


def _function_json(tool: Tool) -> Json:
    description = tool.description or None
    return _given({"name": tool.name, "description": description, "parameters": parameters_json(tool)})


def _parameters_head(tool: Tool) -> Json:
    required = list(tool.required) or None
    return _given(
        {"type": tool.parameters_type, "$defs": tool.defs, "items": tool.parameters_items, "required": required}
    )


def _properties_json(properties: Mapping[str, Property]) -> Json:
    return {name: property_json(schema) for name, schema in properties.items()}


def _read_property(given: Json) -> Property:
    types = given.get("type")
    return Property(
        any_of=tuple(_read_property(option) for option in _list(given.get("anyOf")) if isinstance(option, dict)),
        type=(types,) if isinstance(types, str) else _texts(types),
        items=free(given.get("items")),
        description=_text(given.get("description")),
        enum=tuple(map(free, _list(given.get("enum")))),
        properties=_properties(given.get("properties")),
        required=_texts(given.get("required")),
    )


def _properties(given: Any) -> dict[str, Property] | None:
    if not isinstance(given, dict):
        return None
    return {name: _read_property(_object(schema)) for name, schema in given.items()}


def _given(pairs: Json) -> Json:
    return {key: value for key, value in pairs.items() if value is not None}


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in _list(value) if isinstance(item, str))
