"""The kinds of values that schemas allow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat.schema.variants import variants

ROOT = {
    "$defs": {
        "Unit": {"enum": ["celsius", "kelvin"]},
        "Point": {"type": "object", "properties": {"x": {}}, "required": ["x"]},
        "Tree": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "integer"}]},
        "a/b": {"type": "boolean"},
        **{f"D{depth}": {"allOf": [{"$ref": f"#/$defs/D{depth + 1}"}] * 2} for depth in range(40)},
    }
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "string", "#/$defs/Tree", "#/x", "[", "^a$"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "items", "required"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def kinds(schema: Any) -> list[str]:
    return [branch.kind for branch in variants(schema, ROOT)]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, ["string"]),
        ({"type": ["string", "null"]}, ["string", "null"]),
        ({}, [""]),
        (None, [""]),
        (True, [""]),
        ({"description": "free"}, [""]),
        ({"properties": {}}, ["object"]),
        ({"items": {}}, ["array"]),
        (
            {"enum": ["a", 1, 2, 1.5, True, None, [], {}]},
            ["string", "integer", "number", "boolean", "null", "array", "object"],
        ),
        ({"const": 3}, ["integer"]),
        (
            {"anyOf": [{"type": "string"}, {"oneOf": [{"type": "array"}, {"type": "null"}]}]},
            ["string", "array", "null"],
        ),
        ({"$ref": "#/$defs/Unit"}, ["string"]),
        ({"allOf": [{"$ref": "#/$defs/Point"}], "description": "where"}, ["object"]),
        ({"$ref": "#/$defs/a~1b"}, ["boolean"]),
        ({"$ref": "#/$defs/nowhere"}, [""]),
        ({"$ref": "elsewhere"}, [""]),
    ],
)
def test_kinds(schema: Any, expected: list[str]) -> None:
    assert kinds(schema) == expected


def test_what_is_listed() -> None:
    text, number = variants({"enum": ["a", 1, "b"]}, ROOT)
    assert (text.values, number.values) == (("a", "b"), (1,))


def test_what_is_said_beside_a_choice_counts_for_all_of_it() -> None:
    first, second = variants({"minLength": 2, "anyOf": [{"type": "string"}, {"type": "string", "minLength": 5}]}, ROOT)
    assert (first.schema["minLength"], second.schema["minLength"]) == (2, 5)


def test_parts_are_put_together() -> None:
    more = {"properties": {"y": {}}, "required": ["y"]}
    (branch,) = variants({"allOf": [{"$ref": "#/$defs/Point"}, more]}, ROOT)
    assert (list(branch.schema["properties"]), branch.schema["required"]) == (["x", "y"], ["x", "y"])


def test_what_refers_to_itself_ends() -> None:
    assert set(kinds({"$ref": "#/$defs/Tree"})) == {"", "integer"}
    assert kinds({"$ref": "#/$defs/D0"}) == [""]


@given(JUNK)
def test_whatever_was_sent(schema: Any) -> None:
    assert all(isinstance(kind, str) for kind in kinds(schema))
