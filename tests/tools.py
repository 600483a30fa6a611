"""Tools of tests, written as the JSON of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelfile.conversation import Json, Property, Tool


def tool_of(definition: Json, sent: Json | None = None) -> Tool:
    """A tool by `{"type": "function", "function": {"name": …, "parameters": {…}}}`; null is as good as nothing."""
    function: Json = definition.get("function") or {}
    parameters: Json = function.get("parameters") or {}
    return Tool(
        name=function.get("name") or "",
        description=function.get("description") or "",
        type=definition.get("type") or "",
        items=definition.get("items"),
        parameters_type=parameters.get("type") or "",
        parameters_items=parameters.get("items"),
        defs=parameters.get("$defs"),
        required=_or_nil(parameters.get("required")),
        properties=_properties(parameters),
        sent=parameters if sent is None else sent,
    )


def tools_of(definitions: Iterable[Json]) -> tuple[Tool, ...]:
    """Tools by their definitions."""
    return tuple(map(tool_of, definitions))


def property_of(schema: Json) -> Property:
    """The parts of a schema that a template may know; the rest is dropped."""
    type_ = _or_nil(schema.get("type"))
    return Property(
        any_of=tuple(property_of(option) for option in schema.get("anyOf") or ()),
        type=(type_,) if isinstance(type_, str) else type_,
        items=schema.get("items"),
        description=schema.get("description") or "",
        enum=_or_nil(schema.get("enum")),
        properties=_properties(schema),
        required=_or_nil(schema.get("required")),
    )


def _or_nil(value: Any) -> Any:
    return () if value is None else value


def _properties(schema: Json) -> dict[str, Property] | None:
    properties: Json | None = schema.get("properties")
    return None if properties is None else {name: property_of(item) for name, item in properties.items()}
