"""Texts without reserved ones in them, by themselves and in JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.grammar.json_terminals import without
from engine.messages import Grammar
from engine.runner.grammar import Grammars
from engine.runner.grammar_check import ByteVocabulary

TAGS = ("</p>", "<p=", "</pq", "<b>")
GRAMMARS = Grammars(ByteVocabulary())


@given(
    st.text("<>/pqb= x", max_size=12)
    | st.builds("".join, st.lists(st.sampled_from([*TAGS, "<", "</", "a\n"]), max_size=3))
)
def test_the_pattern_is_exact(text: str) -> None:
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda match: re.escape(chr(int(match[1], 16))), without(TAGS))
    assert (re.fullmatch(python, text) is not None) == all(tag not in text for tag in TAGS)


def allowed(schema: Any, value: Any) -> bool:
    """Whether the grammar of a guarded schema allows a value."""
    matcher = GRAMMARS.matcher(Grammar(f"start: value\n{json_rules(schema, 'value', ON_ONE_LINE, TAGS).text}"))
    matcher.set_budget(4096)
    row = np.zeros(ByteVocabulary.size, np.float32)
    for byte in json.dumps(value, ensure_ascii=False).encode():
        row.fill(0)
        matcher.restrict(row)
        if row[byte] != 0:
            return False
        matcher.accept(byte)
    return True


OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, "a < b </q>", "a</p>"),
        ({"type": ["string", "null"]}, None, "<p="),
        ({"type": "string", "minLength": 3}, "abc", "ab"),
        ({"type": "string", "pattern": "^a.*$"}, "a<c>", "a<b>"),
        ({"type": "string", "format": "date"}, "2026-01-31", "x"),
        ({"enum": ["a", "</p>"]}, "a", "</p>"),
        ({"type": "array", "items": {"type": "string"}}, ["x", "<"], ["x", "<b>"]),
        ({"type": "array"}, [1, {"b": None}], ["</p>"]),
        (OBJECT, {"a": "x"}, {"a": "</p>"}),
        ({**OBJECT, "type": ["object", "null"]}, None, {"a": "<b>"}),
        ({"type": "object"}, {"b": [{"c": "x"}]}, {"b": [{"c": "<b>"}]}),
        ({"type": "object"}, {"b": 1}, {"</p>": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"b": 1}, {"b": "x"}),
        ({"type": "object", "additionalProperties": False}, {}, {"b": 1}),
        ({}, {"a": [1, "x", True]}, "<b>"),
        ({"anyOf": [OBJECT, {"type": "integer"}]}, 7, {"a": "<b>"}),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}]}, {"a": 1}, {"b": 1}),
        ({"$ref": "#/$defs/S", "$defs": {"S": {"type": "string"}}}, "x", "<b>"),
    ],
)
def test_values(schema: Any, good: Any, bad: Any) -> None:
    assert allowed(schema, good)
    jsonschema.validate(good, schema)
    assert not allowed(schema, bad)


def test_strings_beside_a_choice() -> None:
    schema = {"type": "string", "anyOf": [{"maxLength": 3}, {"const": "<b> and more"}]}
    assert allowed(schema, "abc")
    assert not allowed(schema, "<b>")
