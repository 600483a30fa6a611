"""Bare text turned into what a schema asks for."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output.values import JSON_TYPES, typed


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("x", "", "x"),
        ("5", "", "5"),
        ("NULL", "string", None),
        ("True", "boolean", True),
        ("perhaps", "boolean", False),
        ("perhaps", "boolean string", "perhaps"),
        ("3", "integer", 3),
        ("+3", "integer", 3),
        (" 3", "integer", " 3"),
        ("3.5", "integer", "3.5"),
        ("12345678901234567890", "integer", 12345678901234567890),
        ("2.0", "number", 2),
        ("2.5e-1", "number", 0.25),
        (".5", "number", 0.5),
        ("inf", "number", "inf"),
        ("1e999", "number", "1e999"),
        ("3", "string number", 3),
        ("three", "string number", "three"),
        ('["a", 1]', "array", ["a", 1]),
        ("['a', True, None]", "array", ["a", True, None]),
        ("[a, b]", "array", "[a, b]"),
        ('{"a": 1}', "object", {"a": 1}),
        ("{'a': {'b': (1, 2)}}", "object", {"a": {"b": [1, 2]}}),
        ('{"a": 1}', "array", '{"a": 1}'),
        ("[1] and more", "array", "[1] and more"),
        ("5", "string", "5"),
    ],
)
def test_typed(text: str, types: str, value: Any) -> None:
    result = typed(text, frozenset(types.split()))
    assert result == value
    assert type(result) is type(value)


def test_no_text_takes_long() -> None:
    for text in ("1" * 100_000 + "x", "[" * 100_000, "{'a':" * 100_000, " " * 100_000):
        assert typed(text, JSON_TYPES) == text
