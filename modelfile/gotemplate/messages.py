"""Messages and tools as Go values of a template, and merging of neighbouring messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from modelfile.conversation import Message, Property
from modelfile.gotemplate.encoding import print_as_json, print_as_object
from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.values import (
    ANY,
    ANY_SLICE,
    INT,
    STRING,
    UINT8,
    MapType,
    Member,
    PointerType,
    SliceType,
    StructType,
    Value,
    string,
)


def collate(messages: Iterable[Message]) -> list[Message]:
    """Merge neighbouring messages of the same role, except tool results.

    Texts and tool calls are concatenated; other fields are the first message's.
    """
    collated: list[Message] = []
    for role, group in groupby(messages, attrgetter("role")):
        first, *others = group
        if role == "tool" or not others:
            collated += first, *others
            continue
        content = "\n\n".join(message.content for message in (first, *others))
        calls = chain.from_iterable(message.tool_calls for message in (first, *others))
        collated.append(replace(first, content=content, tool_calls=tuple(calls)))
    return collated


def system_text(messages: Iterable[Message]) -> str:
    """The texts of all system messages."""
    return "\n\n".join(message.content for message in messages if message.role == "system")


_ARGUMENTS = MapType("template.templateArgs", ANY, methods={"String": print_as_object})
_CALLED = StructType(
    "template.templateToolCallFunction",
    (Member("Index", INT, "index"), Member("Name", STRING, "name"), Member("Arguments", _ARGUMENTS, "arguments")),
)
_TOOL_CALL = StructType("template.templateToolCall", (Member("ID", STRING, "id"), Member("Function", _CALLED, "")))
_IMAGE = SliceType("api.ImageData", UINT8)
_MESSAGE = StructType(
    "template.templateMessage",
    (
        Member("Role", STRING, "role"),
        Member("Content", STRING, "content"),
        Member("Thinking", STRING, "thinking"),
        Member("Images", SliceType("[]api.ImageData", _IMAGE), "images"),
        Member("ToolCalls", SliceType("[]template.templateToolCall", _TOOL_CALL), "tool_calls"),
        Member("ToolName", STRING, "tool_name"),
        Member("ToolCallID", STRING, "tool_call_id"),
    ),
)
MESSAGES = SliceType("[]*template.templateMessage", PointerType("*template.templateMessage", _MESSAGE))
"""The Go type of `.Messages`; its data is a list of `Message`, or None."""


# Tools: structs that print as JSON.


def _type_text(types: Value, budget: Budget) -> Value:
    names = types.data or ()
    return string(f"[{' '.join(names)}]" if len(names) > 1 else "".join(names))


def _single(types: Any) -> Any:
    return types[0] if types and len(types) == 1 else types


_TYPESCRIPT = {"number": "number", "integer": "number", "string": "string", "boolean": "boolean", "null": "null"}
_TYPESCRIPT |= {"array": "any[]", "object": "Record<string, any>"}


def _typescript(property_: Property) -> str:
    if property_.any_of:
        return " | ".join(map(_typescript, property_.any_of))
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in property_.type) or "any"


def _typescript_type(property_: Value, budget: Budget) -> Value:
    return string(_typescript(property_.data))


_STRINGS = SliceType("[]string", STRING)
_TYPE = SliceType("api.PropertyType", STRING, methods={"String": _type_text}, simplify=_single)
_PROPERTY = StructType("api.ToolProperty", zero=Property(), methods={"ToTypeScriptType": _typescript_type})
_NESTED = MapType("api.ToolPropertiesMap", _PROPERTY, ordered=True, methods={"String": print_as_json})
_PROPERTY.members = (
    Member("AnyOf", SliceType("[]api.ToolProperty", _PROPERTY), "any_of", "anyOf", omit_empty=True),
    Member("Type", _TYPE, "type", "type", omit_empty=True),
    Member("Items", ANY, "items", "items", omit_empty=True),
    Member("Description", STRING, "description", "description", omit_empty=True),
    Member("Enum", ANY_SLICE, "enum", "enum", omit_empty=True),
    Member("Properties", PointerType("*api.ToolPropertiesMap", _NESTED), "properties", "properties", omit_empty=True),
    Member("Required", _STRINGS, "required", "required", omit_empty=True),
)
_PROPERTIES = MapType("template.templateProperties", _PROPERTY, methods={"String": print_as_object})
_PARAMETERS = StructType(
    "template.templateToolFunctionParameters",
    (
        Member("Type", STRING, "parameters_type", "type"),
        Member("Defs", ANY, "defs", "$defs", omit_empty=True),
        Member("Items", ANY, "parameters_items", "items", omit_empty=True),
        Member("Required", _STRINGS, "required", "required", omit_empty=True),
        Member("Properties", _PROPERTIES, "properties", "properties"),
    ),
    methods={"String": print_as_json},
)
_FUNCTION = StructType(
    "template.templateToolFunction",
    (
        Member("Name", STRING, "name", "name"),
        Member("Description", STRING, "description", "description"),
        Member("Parameters", _PARAMETERS, "", "parameters"),
    ),
    methods={"String": print_as_json},
)
_TOOL = StructType(
    "template.templateTool",
    (
        Member("Type", STRING, "type", "type"),
        Member("Items", ANY, "items", "items", omit_empty=True),
        Member("Function", _FUNCTION, "", "function"),
    ),
    methods={"String": print_as_json},
)
TOOLS = SliceType("template.templateTools", _TOOL, methods={"String": print_as_json})
"""The Go type of `.Tools`; its data is a list of `Tool`, or None."""
