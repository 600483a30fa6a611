"""Schemas of all kinds as grammars: what they allow is valid, and what is valid they mostly allow."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import jsonschema
import pytest

from engine.chat.grammar.json_grammar import json_rules
from engine.chat.schema.reader import LARGEST, UnusableSchema
from tests.engine.chat.grammars import allows, allows_value, schema_matcher, written_at_random

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


NODE = {"type": "object", "properties": {"v": WHOLE, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
TREE = {"$defs": {"node": {**NODE, "required": ["v", "next"]}}, "$ref": "#/$defs/node"}
VALID: dict[str, tuple[Any, list[Any], list[Any]]] = {
    # schema, values that its grammar allows, values that it does not
    "nothing is said": ({}, [1, "x", None, [{"a": []}]], []),
    "true": ({"type": "object", "properties": {"a": True}}, [{"a": [1]}, {}], [{"b": 1}]),
    "false": ({"type": "object", "properties": {"a": WHOLE, "b": False}}, [{"a": 1}, {}], [{"b": 1}]),
    "types": ({"type": ["string", "null", "integer"]}, ["x", None, 3], [1.5, [], True]),
    "const": ({"const": {"a": 1, "b": [1, 2]}}, [{"a": 1, "b": [1, 2]}], [{}]),
    "enum": ({"enum": ["a", 1, None, True, {"x": 1}, 1.5]}, ["a", 1, None, True, {"x": 1}, 1.5], ["b", 2, False]),
    "enum of a type": ({"type": "string", "enum": ["a", 1]}, ["a"], [1]),
    "not an enum": ({"type": "string", "not": {"enum": ["a", "b"]}}, ["c", ""], ["a", "b"]),
    "not a type": ({"not": {"type": "object"}}, [1, "x", []], [{}]),
    "limits of a text": ({"type": "string", "minLength": 2, "maxLength": 3.0}, ["ab", "é\n€"], ["a", "abcd"]),
    "pattern and limits": ({"type": "string", "pattern": "^a+$", "maxLength": 2}, ["a", "aa"], ["aaa", "b"]),
    "a pattern of the only length": ({"type": "string", "pattern": "^a{2,}|bb$", "maxLength": 2}, ["aa", "bb"], ["b"]),
    "a long pattern and limits": (
        {"type": "string", "pattern": "^a{1001}$", "minLength": 3, "maxLength": 2000},
        ["a" * 1001],
        ["a" * 1000, "a" * 1002, "a"],
    ),
    "a text that cannot be": ({"anyOf": [{"pattern": "^a{3}$", "maxLength": 2}, WHOLE]}, [1], ["aa", "aaa"]),
    "limits of a number": ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [0.5, 1], [0, 1.1, -1]),
    "old exclusive": ({"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5}, [4, 5], [3, 6]),
    "int64": ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, [2**63 - 1, -(2**63)], [2**63]),
    "uint64": ({"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, [2**64 - 1], [2**64, -1]),
    "large maximum": ({"type": "integer", "maximum": 1e20}, [10**20], [10**20 + 1]),
    "multiples": ({"type": "integer", "multipleOf": 7, "minimum": 1}, [7, 700, 14], [0, 8, -7]),
    "cents": ({"type": "number", "multipleOf": 0.01, "minimum": 0}, [1, 9.99, 0.5], [1.001, -1]),
    "items": ({"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3], ["x"]]),
    "one item": ({"type": "array", "items": WHOLE, "maxItems": 1}, [[], [1]], [[1, 2]]),
    "one item at least": ({"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 1}, [[1]], [[], [1, 2]]),
    "no item": ({"type": "array", "items": WHOLE, "maxItems": 0}, [[]], [[1]]),
    "one more than the tuple": (
        {"type": "array", "prefixItems": [TEXT], "items": WHOLE, "maxItems": 2},
        [[], ["a"], ["a", 1]],
        [["a", 1, 2]],
    ),
    "the tuple and no more": (
        {"type": "array", "prefixItems": [TEXT, WHOLE], "items": WHOLE, "maxItems": 1},
        [[], ["a"]],
        [["a", 1]],
    ),
    "one property": (
        {"type": "object", "additionalProperties": WHOLE, "maxProperties": 1},
        [{}, {"a": 1}],
        [{"a": 1, "b": 2}],
    ),
    "no property": ({"type": "object", "additionalProperties": WHOLE, "maxProperties": 0}, [{}], [{"a": 1}]),
    "tuple": ({"type": "array", "prefixItems": [TEXT, WHOLE], "items": False}, [["a", 1], []], [[1], ["a", 1, 2]]),
    "old tuple": ({"type": "array", "items": [TEXT], "additionalItems": WHOLE}, [["a", 1]], [[1], ["a", "b"]]),
    "no items": ({"type": "array", "items": False}, [[]], [[1]]),
    "order and what is left out": (
        {"type": "object", "properties": {"a": WHOLE, "b": WHOLE, "c": WHOLE}, "required": ["b"]},
        [{"b": 1}, {"a": 1, "b": 2}, {"b": 1, "c": 2}],
        [{}, {"a": 1}, {"b": 1, "a": 2}, {"b": 1, "d": 2}],
    ),
    "required and not listed": ({**object_of(a=TEXT), "required": ["a", "z"]}, [{"a": "", "z": [1]}], [{"a": ""}]),
    "map": ({"type": "object", "additionalProperties": WHOLE}, [{}, {"x": 1, "y": 2}], [{"x": "1"}]),
    "others": ({**object_of(a=TEXT), "additionalProperties": WHOLE}, [{"a": "", "b": 1}], [{"a": "", "b": ""}]),
    "patterns of names": (
        {"type": "object", "patternProperties": {"^x-": WHOLE, "^y": TEXT}},
        [{"x-a": 1, "y": ""}, {}],
        [{"x-a": ""}, {"z": 1}],
    ),
    "names": ({"type": "object", "propertyNames": {"pattern": "^[a-z]$"}}, [{"a": 1}], [{"A": 1}, {"ab": 1}]),
    "listed names": ({"type": "object", "propertyNames": {"enum": ["a", "b"]}}, [{"a": 1}, {"b": 2}], [{"c": 1}]),
    "how many properties": ({"type": "object", "minProperties": 1, "maxProperties": 2}, [{"a": 1}], [{}]),
    "how many of those listed": (
        {"type": "object", "properties": {"a": WHOLE, "b": WHOLE, "c": WHOLE}, "minProperties": 2, "maxProperties": 2},
        [{"a": 1, "b": 2}, {"b": 1, "c": 2}],
        [{"a": 1}, {"a": 1, "b": 2, "c": 3}],
    ),
    "all of": ({"allOf": [object_of(a=TEXT), object_of(b=WHOLE)]}, [{"a": "", "b": 1}], [{"a": ""}, {"b": 1}]),
    "one of all": ({"allOf": [{"minimum": 3}, {"maximum": 5}], "type": "integer"}, [3, 5], [2, 6]),
    "choices beside properties": (
        {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": ""}, {"b": ""}, {"a": "", "b": ""}],
        [{}],
    ),
    "a choice by a constant": (
        {"oneOf": [object_of(k={"const": "a"}), object_of(k={"const": "b"}, x=WHOLE)], "discriminator": {}},
        [{"k": "a"}, {"k": "b", "x": 1}],
        [{"k": "b"}, {"k": "c"}],
    ),
    "a reference and more": ({"$defs": {"S": TEXT}, "$ref": "#/$defs/S", "minLength": 2}, ["ab"], ["a", 1]),
    "a tree": (TREE, [{"v": 1, "next": None}, {"v": 1, "next": {"v": 2, "next": None}}], [{"v": 1}]),
    "nothing but itself": ({"$ref": "#"}, [1, {}], []),
    "an end that is never needed": (
        {**object_of(a=WHOLE), "properties": {"a": WHOLE, "b": {"$ref": "#/$defs/x"}}, "$defs": {"x": {
            "type": "object", "properties": {"y": {"$ref": "#/$defs/x"}}, "required": ["y"]}}},
        [{"a": 1}],
        [],
    ),
    "an array without type": ({"items": WHOLE}, [[1]], ["x"]),
    "an object without type": ({"properties": {"a": WHOLE}}, [{"a": 1}], ["x"]),
    "strange names": (
        object_of(**{'a"b': WHOLE, "": WHOLE, "\n": WHOLE, "é": WHOLE}), [{'a"b': 1, "": 2, "\n": 3, "é": 4}], [{}]
    ),
    "annotations": ({"$comment": "x", "title": "T", "default": 1, "examples": [1], **TEXT}, ["a"], [1]),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID)
def test_what_a_schema_allows(name: str) -> None:
    schema, good, bad = VALID[name]
    matcher = schema_matcher(schema)
    for value in good:
        if name != "nothing but itself":  # the validator would never end
            jsonschema.validate(value, schema, jsonschema.Draft4Validator if name.startswith("old") else None)
        assert allows(matcher, json.dumps(value, ensure_ascii=False)), value
    for value in bad:
        assert not allows(matcher, json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize("name", [name for name in VALID if not name.startswith("old")])
def test_whatever_is_written_is_valid(name: str) -> None:
    schema, chance = VALID[name][0], random.Random(name)
    matcher = schema_matcher(schema)
    texts = [text for _ in range(8) if (text := written_at_random(matcher, chance)) is not None]
    for text in texts:
        if name not in ("nothing but itself", "cents"):  # without end, and by floating point
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("name", ["Größe", "List[int]", "a b", "a/b", "a~b", "100%", "名前", 'a"b', "x.y$z"])
def test_references_to_any_name(name: str) -> None:
    pointer = name.replace("~", "~0").replace("/", "~1")
    encoded = "".join(f"%{byte:02X}" for byte in pointer.encode())
    for reference in (pointer, encoded):
        for key in ("$defs", "definitions"):
            schema = {key: {name: WHOLE}, "type": "object", "properties": {"a": {"$ref": f"#/{key}/{reference}"}}}
            assert allows_value(schema, {"a": 1})
            assert not allows_value(schema, {"a": "x"})


@pytest.mark.parametrize(
    "reference",
    ["#q", "bar.json", "https://x.y/z#/properties/a", "#/properties/a", "#/$defs/l/allOf/0", "x.y/bar.json", "urn:q"],
)
def test_references_by_other_names(reference: str) -> None:
    named = {"$schema": "http://foo", "$id": "bar.json", "$anchor": "q", **TEXT}
    schema = {
        "$id": "https://x.y/z",
        "properties": {"a": named, "b": {"$ref": reference}},
        "required": ["b"],
        "$defs": {"u": {"$id": "urn:q", **TEXT}, "l": {"allOf": [TEXT]}},
    }
    assert allows_value(schema, {"b": "x"})
    assert not allows_value(schema, {"b": 1})


@pytest.mark.parametrize(
    "dialect", ["https://json-schema.org/draft-07/schema#", "https://spec.openapis.org/oas/3.1/dialect/base", "x", 7]
)
def test_any_dialect(dialect: Any) -> None:
    schema = {"$schema": dialect, "$id": "https://example.com/a b", "properties": {"a": {"$schema": dialect, **WHOLE}}}
    assert allows_value(schema, {"a": 1})


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "string", "pattern": r"(a)\1"}, "pattern '(a)\\\\1': it refers back"),
        *(
            ({"type": "string", "pattern": never}, f"pattern {never!r}: no text matches it")
            for never in ["[]", "a^b", "a$b", "x[]+", "^[^\\s\\S]$"]
        ),
        ({"type": "string", "pattern": "^a{10001}$"}, "pattern '^a{10001}$': it repeats too often"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"const": 1}}, "contains"),
        ({"type": "array", "minItems": 10**12}, "minItems"),
        ({"type": "array", "maxItems": 10**12}, "maxItems"),
        ({"type": "string", "minLength": 10**12}, "minLength"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        ({"type": "string", "minLength": "x"}, "minLength"),
        ({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}, "if, then"),
        ({"type": "object", "dependentRequired": {key: ["f"] for key in "abcde"}}, "dependentRequired"),
        ({"not": {"minLength": 3}}, "not"),
        ({"type": "integer", "multipleOf": 99_999_989}, "multipleOf"),
        ({"type": "number", "multipleOf": 0}, "multipleOf"),
        ({"type": "number", "minimum": "1"}, "minimum"),
        (
            {"type": "object", "patternProperties": {"(?=a)*": {}}},
            "patternProperties '(?=a)*': it repeats an assertion",
        ),
    ],
)
def test_what_cannot_be_enforced_is_left_out_and_said(
    schema: Any, keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pronk.engine"):
        matcher = schema_matcher(schema)
    assert written_at_random(matcher, random.Random(3)) is not None
    assert caplog.messages == [f"JSON schema: cannot be enforced, left out: {keyword}"]


@pytest.mark.parametrize("format", ["date", "time", "date-time", "duration", "email", "ipv4", "ipv6", "uuid", "uri"])
def test_formats(format: str) -> None:
    good = {
        "date": ["2024-02-29", "2026-11-30"], "time": ["23:59:59Z", "01:02:03.5+02:00"],
        "duration": ["P1DT2H", "PT5M", "P3W"],
        "date-time": ["2026-11-30T23:59:00Z"], "email": ["a.b+c@x-y.org"], "ipv4": ["0.0.0.0", "255.1.20.3"],
        "ipv6": ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "fe80::1:2"], "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
        "uri": ["https://x.org/a?b#c", "mailto:a@b.c"],
    }  # fmt: skip
    bad = {
        "date": ["2024-02-30", "2100-02-29"], "time": ["24:00:00Z"], "duration": ["P", "1D"],
        "date-time": ["2026-11-30"],
        "email": ["a", "@b"], "ipv4": ["256.0.0.1"], "ipv6": ["1", ":::"], "uuid": ["123"],
        "uri": ["x", "/a"],
    }  # fmt: skip
    matcher = schema_matcher({"type": "string", "format": format})
    for text in good[format]:
        assert allows(matcher, f'"{text}"'), text
    for text in bad[format]:
        assert not allows(matcher, f'"{text}"'), text


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nosuch"}, "^Invalid type: nosuch$"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "^it contradicts itself: no value would do$"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "^it contradicts itself"),
        ({"type": "string", "pattern": "^[a-z]{3}$", "minLength": 5}, "^it contradicts itself: no value would do$"),
        ({"type": "string", "pattern": "^a{10}$", "maxLength": 5}, "^it contradicts itself"),
        ({"type": "string", "pattern": "(ab|cd?)+x{4,}", "maxLength": 4}, "^it contradicts itself"),
        ({"allOf": [{"pattern": "^a{3}$"}, {"pattern": "^(b|[^c]){4,9}$"}]}, "^it contradicts itself"),
        ({"format": "date", "maxLength": 9}, "^it contradicts itself"),
        (object_of(a={"pattern": "^(?=...)a?b?c*$", "maxLength": 2}), "^it contradicts itself"),
        ({"allOf": [TEXT, WHOLE]}, "^it contradicts itself"),
        (False, "^it contradicts itself"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "^it contradicts itself"),
        ({"$ref": "#/$defs/nosuch"}, "^what it refers to does not exist: #/\\$defs/nosuch$"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "^what it refers to does not exist"),
        ({"properties": []}, "^properties is no object$"),
        ({"enum": ["x" * LARGEST]}, f"too large: at most {LARGEST} characters"),
    ],
)
def test_what_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(UnusableSchema, match=why):
        json_rules(schema, "value")


@pytest.mark.parametrize("keyword", ["items", "default", "anyOf"])
def test_deep_schemas_are_refused(keyword: str) -> None:
    schema: Any = {}
    for _ in range(5_000):
        schema = {keyword: [schema] if keyword == "anyOf" else schema}
    with pytest.raises(UnusableSchema, match="nested too deeply"):
        json_rules(schema, "value")


def test_white_space() -> None:
    matcher = schema_matcher({"type": "array", "items": WHOLE})
    assert allows(matcher, "[\n  1,\n\t2\n]")
    assert not allows(matcher, "[" + " " * 30 + "1]")
    assert not allows(schema_matcher({"type": "array", "items": WHOLE}, r"\x20"), "[\n1]")


def test_hundreds_of_alternatives() -> None:
    schema = {"oneOf": [object_of(k={"const": n}) for n in range(600)]}
    assert allows_value(schema, {"k": 599})
    assert not allows_value(schema, {"k": 600})


PERSON = {"name": {"type": "string"}, "card": {"type": "integer"}, "address": {"type": "string"}}
BY_KIND = {
    "properties": {"kind": {"enum": ["cat", "dog", "fish"]}, "lives": {"type": "integer"}, "bark": {"type": "string"}},
    "if": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
    "then": {"required": ["lives"]},
    "else": {"required": ["bark"]},
}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            {"properties": PERSON, "dependentRequired": {"card": ["address"]}},
            [{}, {"name": "a"}, {"address": "b"}, {"card": 5, "address": "b"}],
            [{"card": 5}, {"name": "a", "card": 5}],
        ),
        (
            {"properties": PERSON, "dependencies": {"card": {"required": ["name"]}, "address": ["card"]}},
            [{"name": "a"}, {"name": "a", "card": 5}, {"name": "a", "card": 5, "address": "b"}],
            [{"card": 5}, {"name": "a", "address": "b"}],
        ),
        (
            BY_KIND,
            [{"kind": "cat", "lives": 9}, {"kind": "dog", "bark": "wow"}, {"bark": "wow"}],
            [{"kind": "cat"}, {"kind": "cat", "bark": "wow"}, {"kind": "dog", "lives": 9}, {}],
        ),
        (
            {**BY_KIND, "if": {"properties": {"kind": {"enum": ["cat", "dog"]}}}},
            [{"kind": "cat", "lives": 9}, {"kind": "fish", "bark": "-"}, {"lives": 9}],
            [{"kind": "dog", "bark": "wow"}, {"kind": "fish", "lives": 9}, {"bark": "wow"}],
        ),
        ({"type": "integer", "if": True, "then": {"minimum": 5}, "else": {"maximum": 3}}, [5], [3]),
        (
            {"properties": {"a": True}, "allOf": [{"properties": {"b": True}}], "unevaluatedProperties": {"const": 1}},
            [{"a": 2, "b": 2}, {"c": 1}],
            [{"c": 2}],
        ),
        ({"prefixItems": [{"const": 1}], "unevaluatedItems": False}, [[], [1]], [[1, 2]]),
        ({"properties": {"a": False}, "additionalProperties": {"const": 1}}, [{}, {"b": 1}], [{"a": 1}]),
        ({"not": {"type": ["integer", "object"]}}, ["a", None, []], [1, {}]),
        ({"type": "integer", "allOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [0, 6, 12], [2, 3, 9]),
    ],
    ids=str,
)
def test_conditions(schema: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not allows_value(schema, value)] == []
    assert [value for value in bad if allows_value(schema, value)] == []
    validator = jsonschema.Draft202012Validator({key: value for key, value in schema.items() if key != "dependencies"})
    assert all(validator.is_valid(value) for value in good)


def test_names_that_no_schema_lists_are_not_endless() -> None:
    schema = {"type": "object"}
    assert allows_value(schema, {"n" * 100: {"é" * 100: 1}})
    assert not allows_value(schema, {"n" * 101: 1})
    assert not allows_value(schema, {"n": {"é" * 101: 1}})
    assert allows_value({"type": "object", "properties": {"n" * 200: {}}}, {"n" * 200: 1})
