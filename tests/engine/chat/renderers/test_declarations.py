"""Tools as renderers see them."""

from __future__ import annotations

from typing import Any

from engine.chat.renderers.declarations import parameters_markup, tool_json
from tests.tools import tool_of

TOOL: dict[str, Any] = {
    "function": {
        "strict": True,
        "parameters": {
            "properties": {
                "z": {"required": ["q"], "type": ["string", "null"], "default": 1, "description": ""},
                "a": {"items": {"z": 1, "a": "<"}, "type": ["array"], "anyOf": [], "enum": ["<", 2]},
            },
            "additionalProperties": False,
            "required": ["z"],
            "$defs": {"b": "<", "a": 1},
            "type": "object",
        },
        "name": "f",
    },
    "type": "function",
}


def test_keys_stand_in_the_order_of_the_api() -> None:
    parameters = {
        "type": "object",
        "$defs": {"a": 1, "b": "<"},
        "required": ["z"],
        "properties": {
            "z": {"type": ["string", "null"], "required": ["q"]},
            "a": {"type": "array", "items": {"a": "<", "z": 1}, "enum": ["<", 2]},
        },
    }
    expected = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    assert repr(tool_json(tool_of(TOOL))) == repr(expected)


def test_what_is_missing() -> None:
    nothing = {"type": "", "function": {"name": "", "parameters": {"type": "", "properties": None}}}
    assert tool_json(tool_of({})) == nothing


def test_markup_is_kept_outside_of_properties() -> None:
    text = parameters_markup(tool_of(TOOL))
    assert text.startswith('{"type": "object", "$defs": {"a": 1, "b": "<"}, "required": ["z"], "properties": {"z": ')
    assert text.endswith(r'"items": {"a": "\u003c", "z": 1}, "enum": ["\u003c", 2]}}}')
    assert parameters_markup(tool_of({})) == '{"type": "", "properties": null}'
