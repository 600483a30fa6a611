"""JSON schemas as clients send them, made ready for a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.chat.guarded import guarded_schema

LARGEST = 256 << 10  # characters of schema in one request
DEEPEST = 100  # schemas inside of each other
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalItems", "additionalProperties")
_COMBINING = ("allOf", "anyOf", "oneOf", "$ref")
_OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties")
LOOKS_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<")
INDENTED = r"[\x20\x0A\x09]{1,20}"  # white space between the parts of JSON; small models would never end it
ON_ONE_LINE = r"\x20"


class UnusableSchema(ValueError):
    """The schema cannot become a grammar; the message is for the user."""


def grammar_schema(schema: Mapping[str, Any], spaces: str = INDENTED, reserved: Sequence[str] = ()) -> str:
    """A schema as the JSON text that `%json` takes in a grammar. Raises UnusableSchema.

    `spaces` is the pattern of white space between two parts of an answer. No text in it has one of the `reserved`.
    What cannot be enforced is ignored. An object has no properties but those that are listed, unless something is said
    about others. Patterns that look around or back are left out: no automaton can follow them.
    """
    try:
        closes = not any(_combines(each) for each in _schemas(schema, DEEPEST))
        options = {"lenient": True, "whitespace_pattern": spaces}
        guarded = guarded_schema(_prepared(schema, closes), reserved)
        text = json.dumps({**guarded, "x-guidance": options}, ensure_ascii=False)
    except RecursionError:
        raise UnusableSchema("it is nested too deeply") from None
    if len(text) > LARGEST:
        raise UnusableSchema(f"it is too large: at most {LARGEST} characters are accepted")
    return text


def count(schema: Mapping[str, Any], key: str) -> int | None:
    """How many a keyword says; None where it says nothing, or nothing sensible."""
    value = schema.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        return None
    return int(value)


def _combines(schema: Mapping[str, Any]) -> bool:
    """Whether objects are put together from parts here: what one part does not list another may."""
    parts = schema.get("allOf")
    return (isinstance(parts, list) and len(parts) > 1) or (
        "properties" in schema and any(key in schema for key in _COMBINING)
    )


def _schemas(schema: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """A schema and all those inside of it. Raises UnusableSchema."""
    if not isinstance(schema, Mapping):
        return
    if not depth:
        raise UnusableSchema("it is nested too deeply")
    yield schema
    for key, value in schema.items():
        for inner in _inside(key, value):
            yield from _schemas(inner, depth - 1)


def _inside(key: str, value: Any) -> list[Any]:
    """The schemas that a keyword holds."""
    if key in _MAPS and isinstance(value, Mapping):
        return list(value.values())
    if key in _LISTS and isinstance(value, list):
        return value
    return [value] if key in _SINGLE else []


def _prepared(schema: Any, closes: bool) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _value(key, value, closes) for key, value in schema.items() if not _is_lost(key, value)}
    listed = schema.get("properties")
    if closes and isinstance(listed, Mapping) and not any(key in schema for key in _OPEN):
        required = schema.get("required")
        if not isinstance(required, list) or all(name in listed for name in required):
            found["additionalProperties"] = False
    return found


def _value(key: str, value: Any, closes: bool) -> Any:
    if key in _MAPS and isinstance(value, Mapping):
        return {name: _prepared(inner, closes) for name, inner in value.items() if not _is_lost(key, name)}
    if key in _LISTS and isinstance(value, list):
        return [_prepared(inner, closes) for inner in value]
    return _prepared(value, closes) if key in _SINGLE else value


def _is_lost(key: str, value: Any) -> bool:
    """Whether a keyword cannot be told to a grammar; for patterns of properties `value` is one of them."""
    if key == "x-guidance":
        return True
    return key in ("pattern", "patternProperties") and isinstance(value, str) and bool(LOOKS_AROUND.search(value))
