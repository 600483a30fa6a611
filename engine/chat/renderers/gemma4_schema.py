"""Gemma 4's declarations of tools: a JSON Schema in Gemma's notation, its types in capitals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.chat.renderers.gemma_values import GemmaValues
from engine.chat.renderers.values import is_composite, scalar_text, text_or_json
from modelfile.gotemplate import Property, Tool

MARK = '<|"|>'
_VALUES = GemmaValues(MARK, null="null", key=lambda name: f"{MARK}{name}{MARK}")
_RESERVED = frozenset({"description", "type", "properties", "required", "nullable"})
Schema = dict[str, Any]


def declaration(tool: Tool) -> str:
    """A tool as the model reads it."""
    properties = _members(_schemas(tool.properties or {}))
    return f"<|tool>declaration:{tool.name}{_VALUES.tool(tool, properties)}<tool|>"


def _schemas(properties: Mapping[str, Property]) -> Schema:
    return {name: _schema(schema) for name, schema in properties.items()}


def _schema(schema: Property) -> Schema:
    """The schema of an argument as plain JSON, with a simple `anyOf` as a choice of types.

    Several types are one text that looks like Python's list, as the family's template makes it.
    """
    types = list(schema.type) or _simple_types(schema)
    quoted = ", ".join(f"'{name.upper()}'" for name in types)
    found = {
        "type": types[0] if len(types) == 1 else f"[{quoted}]",
        "description": schema.description,
        "enum": list(schema.enum),
        "items": schema.items,
        "properties": None if schema.properties is None else _schemas(schema.properties),
        "required": list(schema.required),
    }
    return found if types else {key: value for key, value in found.items() if key != "type"}


def _simple_types(schema: Property) -> list[str]:
    """The types of an `anyOf` whose options say nothing else."""
    if not all(option.type and option == Property(type=option.type) for option in schema.any_of):
        return []
    return list(dict.fromkeys(name for option in schema.any_of for name in option.type))


def _members(properties: Schema) -> str:
    """The schemas of an object's members; names that a schema itself uses are left out."""
    schemas = (
        f"{name}:{{{','.join(_fields(properties[name]))}}}"
        for name in sorted(properties)
        if name not in _RESERVED and isinstance(properties[name], dict)
    )
    return f"{{{','.join(schemas)}}}"


def _fields(schema: Schema) -> Iterator[str]:
    types = _types(schema.get("type"))
    first = types[0] if types else ""
    description, items, enum = schema.get("description"), schema.get("items"), schema.get("enum")
    if description and isinstance(description, str):
        yield f"description:{_VALUES.text(description)}"
    if first == "STRING" and isinstance(enum, list) and enum:
        yield f"enum:{_VALUES.texts(_enum_text(value) for value in enum)}"
    if first == "ARRAY" and isinstance(items, dict) and items:
        yield f"items:{{{','.join(_item_fields(items))}}}"
    if schema.get("nullable") is True:
        yield "nullable:true"
    if first == "OBJECT":
        nested = schema.get("properties")
        yield f"properties:{_members(nested if isinstance(nested, dict) else schema)}"
        if required := _texts(schema.get("required")):
            yield f"required:{_VALUES.texts(required)}"
    if types:
        yield f"type:{_type_text(types)}"


def _item_fields(items: Schema) -> Iterator[str]:
    """The schema of a list's elements."""
    for key in sorted(key for key, value in items.items() if value is not None):
        value = items[key]
        match key:
            case "properties":
                yield f"properties:{_members(value) if isinstance(value, dict) else '{}'}"
            case "required":
                yield f"required:{_VALUES.texts(_texts(value))}"
            case "type":
                yield f"type:{_type_text(_types(value))}"
            case _:
                yield f"{key}:{_VALUES.value(value)}"


def _types(value: Any) -> list[str]:
    return [name.upper() for name in ([value] if isinstance(value, str) else _texts(value))]


def _type_text(types: list[str]) -> str:
    return _VALUES.text(types[0]) if len(types) == 1 else _VALUES.texts(types)


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _enum_text(value: Any) -> str:
    if value is None:
        return "<nil>"
    return text_or_json(value) if is_composite(value) else scalar_text(value)
