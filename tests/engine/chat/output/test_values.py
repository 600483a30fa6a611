"""Values in the notations of formats, and bare text turned into what a schema asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat.output.stream import Unreadable
from engine.chat.output.values import JSON_TYPES, Literals, python_value, typed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_python_writes_is_read(value: Any) -> None:
    assert python_value(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it\\'s'", "it's"),
        ('"a\\u00e9\\x41\\n\\d"', "aéA\n\\d"),
        ("'two\nlines'", "two\nlines"),
        (r"'\ud83d\ude00 \ud83d'", "😀 \ufffd"),
        ("(1, 2.5, true, null)", [1, 2.5, True, None]),
        ("{'a': [], 'b': {}}", {"a": [], "b": {}}),
        ("[1,]", [1]),
    ],
)
def test_python_values(text: str, value: Any) -> None:
    assert python_value(text) == value


@pytest.mark.parametrize("text", ["", "word", "[1 2]", "{'a' 1}", "'open", "[1", "1 2", "[" * 1000, "{'a': }"])
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(Unreadable):
        python_value(text)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a:1,b:x y}", {"a": 1, "b": "x y"}),
        ("a:<q>1, {2}<q>,b:'z'}", {"a": "1, {2}", "b": "z"}),
        ("a:x, y,b:2}", {"a": "x, y", "b": 2}),
        ("a:[x, y]}", {"a": ["x", "y"]}),
        ('"k 1":1,<q>k 2<q>:2}', {"k 1": 1, "k 2": 2}),
        ("}", {}),
    ],
)
def test_pairs_with_quotes_of_their_own(text: str, pairs: dict[str, Any]) -> None:
    assert Literals(text, quotes=("<q>",)).pairs(":", "}") == pairs


# Bare text turned into what a schema asks for.


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
