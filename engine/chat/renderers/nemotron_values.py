"""How Nemotron 3 shows tools and arguments: as its template's Python would print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.chat.renderers.declarations import property_json
from engine.chat.renderers.jsontext import compact, free
from engine.chat.renderers.qwen import XMLTools
from engine.chat.renderers.values import is_composite, scalar_text
from modelfile.gotemplate import Property, Tool
from modelfile.gotemplate.quoting import quote
from modelfile.gotemplate.strings import SPACES

_CONSTANTS: dict[Any, str] = {None: "None", True: "True", False: "False"}


def argument_text(value: Any) -> str:
    """A value as Python prints it; objects and lists as JSON with blanks."""
    if is_composite(value):
        return _json(free(value))
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return scalar_text(value)


def _json(value: Any) -> str:
    """JSON with blanks, texts quoted as in Go."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_json, value)) + "]"
    return quote(value) if isinstance(value, str) else compact(value)


def _argument(schema: Property) -> Iterator[tuple[str, str]]:
    if schema.type:
        quoted = ", ".join(f"'{name}'" for name in schema.type)
        yield "type", schema.type[0] if len(schema.type) == 1 else f"[{quoted}]"
    if schema.description:
        yield "description", schema.description.strip(SPACES)
    yield from _elements(property_json(schema), "enum", "anyOf", "items", "properties", "required")


def _parameters(tool: Tool) -> Iterator[tuple[str, str]]:
    for name, value in (("$defs", tool.defs), ("items", tool.parameters_items)):
        if value is not None:
            yield name, argument_text(value)
    if tool.required:
        yield "required", _json(tool.required)


def _elements(schema: dict[str, Any], *keys: str) -> Iterable[tuple[str, str]]:
    return ((key, _json(schema[key])) for key in keys if key in schema)


TOOLS = XMLTools(_argument, _parameters, describe=lambda text: text.strip(SPACES))
