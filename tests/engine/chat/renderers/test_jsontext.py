"""JSON inside of prompts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from engine.chat.renderers.jsontext import compact, free, indented, spaced, spaced_markup
from tests.engine.chat.renderers.conversations import JSON

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
