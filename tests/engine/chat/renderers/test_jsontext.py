"""JSON inside of prompts, and tools as renderers show them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from engine.chat.renderers.jsontext import compact, free, indented, parameters_markup, spaced, spaced_markup, tool_json
from tests.engine.chat.renderers.conversations import JSON
from tests.tools import tool_of

VALUE = {"b": '<a>: \\u003c, "q" & é\u2028', "a": [1, {}, [], None, True], "n": 1.5}


def test_compact() -> None:
    escaped = r'"\u003ca\u003e: \\u003c, \"q\" \u0026 é\u2028"'
    assert compact(VALUE) == f'{{"b":{escaped},"a":[1,{{}},[],null,true],"n":1.5}}'


def test_blanks_are_not_put_into_texts() -> None:
    escaped = r'"\u003ca\u003e: \\u003c, \"q\" \u0026 é\u2028"'
    assert spaced(VALUE) == f'{{"b": {escaped}, "a": [1, {{}}, [], null, true], "n": 1.5}}'


def test_markup_stays_where_it_is_meant() -> None:
    assert spaced_markup(VALUE).startswith(r'{"b": "<a>: \\u003c, \"q\" & é\u2028", "a"')


def test_lines() -> None:
    assert indented({"a": [1, {}], "b": {"c": "{,"}}) == (
        '{\n    "a": [\n        1,\n        {}\n    ],\n    "b": {\n        "c": "{,"\n    }\n}'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1},"b":1}'),
        (2**53 + 1, "9007199254740992"),
        (12345678901234567890, "12345678901234567000"),
        (10**22, "1e+22"),
        (3.0, "3"),
        (1e-7, "1e-7"),
    ],
)
def test_values_without_a_schema(value: Any, text: str) -> None:
    assert compact(free(value)) == text


@given(value=JSON)
def test_all_ways_say_the_same(value: Any) -> None:
    plain = free(value)
    if all(word not in compact(plain) for word in ("inf", "nan")):
        parsed = json.loads(compact(plain))
        assert parsed == json.loads(spaced(plain)) == json.loads(spaced_markup(plain)) == json.loads(indented(plain))


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
