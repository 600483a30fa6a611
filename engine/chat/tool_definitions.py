"""Tools as JSON, for templates and renderers: known keys only, in the order of Ollama's API, empty ones left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelfile.conversation import Property, Tool

Json = dict[str, Any]
Rewrite = Callable[[Any], Any]
"""Makes JSON of no declared shape (`items`, `enum`, `$defs`) what the reader wants."""


def _unchanged(value: Any) -> Any:
    return value


def parameters_json(tool: Tool, rewrite: Rewrite = _unchanged) -> Json:
    """The schema of a function's arguments; `properties` is null if it declares none at all."""
    properties = None if tool.properties is None else properties_json(tool.properties, rewrite)
    return {**parameters_head(tool, rewrite), "properties": properties}


def parameters_head(tool: Tool, rewrite: Rewrite = _unchanged) -> Json:
    """What stands before the properties in the schema of a function's arguments; `type` always."""
    optional = {"$defs": rewrite(tool.defs), "items": rewrite(tool.parameters_items), "required": list(tool.required)}
    return {"type": tool.parameters_type, **{key: value for key, value in optional.items() if value not in (None, [])}}


def properties_json(properties: Mapping[str, Property], rewrite: Rewrite = _unchanged) -> Json:
    """The schemas of arguments by name."""
    return {name: property_json(schema, rewrite) for name, schema in properties.items()}


def property_json(schema: Property, rewrite: Rewrite = _unchanged) -> Json:
    """The schema of one argument; a single type is a text, several are a list."""
    fields: Json = {}  # filled key by key: a request may bring tens of thousands of schemas
    if schema.any_of:
        fields["anyOf"] = [property_json(option, rewrite) for option in schema.any_of]
    if schema.type:
        fields["type"] = schema.type[0] if len(schema.type) == 1 else list(schema.type)
    if schema.items not in (None, "", []):
        fields["items"] = rewrite(schema.items)
    if schema.description:
        fields["description"] = schema.description
    if schema.enum:
        fields["enum"] = [rewrite(value) for value in schema.enum]
    if schema.properties is not None:
        fields["properties"] = properties_json(schema.properties, rewrite)
    if schema.required:
        fields["required"] = list(schema.required)
    return fields
