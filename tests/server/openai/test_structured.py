"""The ways to say what an answer looks like."""

import json
from typing import Any

import pytest

from server.http.body import FieldError, decode
from server.http.errors import HTTPError
from server.openai.structured import StructureFields

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
NAMED = {"name": "p", "strict": True, "schema": SCHEMA}


def read(**fields: Any) -> StructureFields:
    return decode(json.dumps(fields).encode(), StructureFields)


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": " JSON_Object "}}, "json"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": NAMED}}, SCHEMA),
        ({"guided_json": SCHEMA}, SCHEMA),
        ({"guided_json": json.dumps(SCHEMA)}, SCHEMA),
        ({"json_schema": SCHEMA}, SCHEMA),
        ({"guided_regex": "[0-9]+"}, {"type": "regex", "pattern": "[0-9]+"}),
        ({"guided_choice": ["a", "b"]}, {"type": "choice", "choices": ["a", "b"]}),
        ({"guided_grammar": 'root ::= "a"'}, {"type": "gbnf", "grammar": 'root ::= "a"'}),
        ({"guided_grammar": 'start: "a"'}, {"type": "lark", "grammar": 'start: "a"'}),
        ({"grammar": 'root ::= "a"'}, {"type": "gbnf", "grammar": 'root ::= "a"'}),
        ({"structured_outputs": {"json": SCHEMA}}, SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json"),
        ({"structured_outputs": {"regex": "a"}}, {"type": "regex", "pattern": "a"}),
        ({"structured_outputs": {"choice": ["a"]}}, {"type": "choice", "choices": ["a"]}),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, {"type": "lark", "grammar": 'start: "a"'}),
        ({"structured_outputs": {"regex": "a", "disable_any_whitespace": True}}, {"type": "regex", "pattern": "a"}),
        ({"grammar": "", "guided_regex": "", "response_format": {"type": "text"}}, None),
        ({"guided_choice": []}, {"type": "choice", "choices": []}),
    ],
)
def test_format(fields: Any, form: Any) -> None:
    text = read(**fields).format
    assert (None if text is None else json.loads(text)) == form


def test_the_keys_keep_their_order() -> None:
    assert read(guided_json=SCHEMA).format == json.dumps(SCHEMA, separators=(",", ":"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "p"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_object"}, "grammar": "x"}, "grammar"),
        ({"structured_outputs": {"regex": "x", "choice": ["x"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"regex": "x"}, "guided_json": SCHEMA}, "guided_json"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_refusals(fields: Any, param: str) -> None:
    with pytest.raises(HTTPError) as caught:
        _ = read(**fields).format
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json_object"}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema",
        ),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_choice": ["a", 5]}, "guided_choice[1]"),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp"),
    ],
)
def test_wrong_types(fields: Any, param: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(**fields)
    assert caught.value.param == param
