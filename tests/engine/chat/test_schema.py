"""What becomes of schemas on their way into a grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.chat.schema import LARGEST, UnusableSchema, grammar_schema

NAME = {"type": "string"}


def prepared(schema: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(grammar_schema(schema))
    assert found.pop("x-guidance")["lenient"] is True
    return found


def test_an_object_has_what_it_lists() -> None:
    inner = {"properties": {"a": NAME}}
    schema = {"type": "object", "properties": {"b": inner}, "items": [inner], "$defs": {"c": inner}}
    closed = {"properties": {"a": NAME}, "additionalProperties": False}
    assert prepared(schema) == {
        "type": "object",
        "properties": {"b": closed},
        "items": [closed],
        "$defs": {"c": closed},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": NAME}, "additionalProperties": True},
        {"properties": {"a": NAME}, "additionalProperties": NAME},
        {"properties": {"a": NAME}, "patternProperties": {"^x": NAME}},
        {"properties": {"a": NAME}, "required": ["a", "b"]},
        {"allOf": [{"properties": {"a": NAME}}, {"properties": {"b": NAME}}]},
        {"properties": {"a": NAME}, "anyOf": [{"properties": {"b": NAME}}, {"properties": {"c": NAME}}]},
        {"properties": {"a": NAME}, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": NAME}}}},
    ],
)
def test_an_object_that_may_have_more(schema: dict[str, Any]) -> None:
    assert prepared(schema) == schema


def test_one_part_is_no_combination() -> None:
    schema = {"$defs": {"a": {"properties": {"a": NAME}}}, "properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]}}}
    found = prepared(schema)
    assert found["additionalProperties"] is False
    assert found["$defs"]["a"]["additionalProperties"] is False


def test_the_order_of_properties_stays() -> None:
    names = ["zebra", "apple", "mango"]
    schema = {"properties": dict.fromkeys(names, NAME), "required": ["mango", "apple"]}
    assert list(prepared(schema)["properties"]) == names


def test_values_are_no_schemas() -> None:
    value = {"properties": {"pattern": "(?=x)"}, "x-guidance": 1}
    schema = {"enum": [value], "const": value, "default": value, "examples": [value]}
    assert prepared(schema) == schema


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", r"(?<q>a)\k<q>"])
def test_patterns_that_no_automaton_follows_are_left_out(pattern: str) -> None:
    assert prepared({"type": "string", "pattern": pattern}) == {"type": "string"}
    assert prepared({"patternProperties": {pattern: NAME, "^a$": NAME}}) == {"patternProperties": {"^a$": NAME}}


@pytest.mark.parametrize("pattern", [r"^\d+$", "(?i)a", "(?<year>[0-9]{4})", "(?:a|b)"])
def test_other_patterns_stay(pattern: str) -> None:
    assert prepared({"pattern": pattern}) == {"pattern": pattern}


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"properties": {"pattern": {"type": "string", "pattern": "(?=a)"}, "x-guidance": NAME}}
    assert prepared(schema)["properties"] == {"pattern": NAME, "x-guidance": NAME}


def test_options_of_the_client_are_not_its_to_set() -> None:
    assert json.loads(grammar_schema({"x-guidance": {"lenient": False}}))["x-guidance"]["lenient"] is True


@pytest.mark.parametrize("keyword", ["items", "default"])
def test_deep_schemas_are_refused(keyword: str) -> None:
    schema: Any = {}
    for _ in range(5_000):
        schema = {keyword: schema}
    with pytest.raises(UnusableSchema, match="nested too deeply"):
        grammar_schema(schema)


def test_large_schemas_are_refused() -> None:
    with pytest.raises(UnusableSchema, match=f"too large: at most {LARGEST} characters"):
        grammar_schema({"enum": ["x" * LARGEST]})
