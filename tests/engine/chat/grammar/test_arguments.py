"""Rules for arguments that are not one object of JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import ChatRequest, Tool
from engine.chat.grammar.constraint import chat_constraint
from engine.chat.output import NAMED, ParseContext, ToolSet
from engine.errors import InvalidRequest
from engine.runner.grammar import GrammarRejected, Grammars
from engine.runner.grammar_check import ByteVocabulary
from tests.engine.chat.schema.test_variants import JUNK

GRAMMARS = Grammars(ByteVocabulary())
FAMILIES = ("qwen3-coder", "glm-4.7", "olmo3", "gemma4", "cohere")


def grammar(parser: str, parameters: Any) -> Any:
    tools = (Tool("f", sent=parameters),)
    constraint = chat_constraint(ChatRequest(model="", tools=tools, tool_choice="required"), tools, NAMED[parser])
    assert constraint is not None
    return constraint.grammar(ParseContext(ToolSet(tools), think=False))


def allows(parser: str, parameters: Any, arguments: str) -> bool:
    """Whether a call of Qwen's or Gemma's may have these arguments."""
    begin, end = {
        "qwen3-coder": ("<tool_call>\n<function=f>\n", "</function>\n</tool_call>"),
        "gemma4": ("<|tool_call>call:f{", "}<tool_call|>"),
        "olmo3": ("<function_calls>f(", ")</function_calls>"),
    }[parser]
    matcher = GRAMMARS.matcher(grammar(parser, parameters))
    matcher.set_budget(4096)
    for byte in f"{begin}{arguments}{end}".encode():
        row = np.zeros(ByteVocabulary.size, np.float32)
        matcher.restrict(row)
        if row[byte] != 0:
            return False
        matcher.accept(byte)
    return True


def element(name: str, value: str) -> str:
    return f"<parameter={name}>\n{value}\n</parameter>\n"


def with_one(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, **fields}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, "x </div> <y\n\n", "null"),
        ({"type": "string"}, "", "x</parameter>"),
        ({"type": "string"}, "nullable", "a<function=b"),
        ({"type": ["string", "null"]}, "null", "</function>"),
        ({}, "null", "<parameter="),
        ({"type": "boolean"}, "True", "yes"),
        ({"type": "null"}, "null", "None"),
        ({"type": "integer", "maximum": 12}, "12", "13"),
        ({"type": "number"}, "-1.5e+06", "1e999"),
        ({"type": "number", "minimum": 2, "maximum": 3}, "2.5", "4"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "abc", "abcd"),
        ({"type": "string", "pattern": "^a/b$"}, "a/b", "a/bc"),
        ({"type": "string", "pattern": "b"}, "abc", "ac"),
        ({"enum": ["x y", 3, None]}, "null", "4"),
        ({"enum": ["{line}", "{key}", "<tool_call>"]}, "{key}", "a"),
        ({"type": "string", "enum": ["null", "b"]}, "b", "null"),
        ({"anyOf": [{"type": "integer"}, {"enum": ["auto"]}]}, "auto", "autos"),
        ({"type": "array", "items": {"type": "string"}}, '["a", "b"]', '["</parameter>"]'),
    ],
)
def test_bare_values(schema: Any, good: str, bad: str) -> None:
    assert allows("qwen3-coder", with_one(schema), element("a", good))
    assert not allows("qwen3-coder", with_one(schema), element("a", bad))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, '<|"|>x, {y}\n<|"|>', '"x"'),
        ({"type": "boolean"}, "true", "True"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, "[1,2]", "[1,2,3]"),
        ({"type": "array", "maxItems": 1}, "[]", "[1,2]"),
        ({"type": "array", "maxItems": 0}, "[]", "[1]"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]}, "[1,null]", "[1]"),
        ({"const": {"b": ["x"], "a": 1}}, '{a:1,b:[<|"|>x<|"|>]}', '{b:[<|"|>x<|"|>],a:1}'),
        ({"type": "object"}, '{k:[{}],l:<|"|>v<|"|>}', '{<|"|>k<|"|>:1}'),
        ({"type": "object", "properties": {"b": {"type": "null"}, "a": {}}}, "{a:[],b:null}", "{b:null,a:[]}"),
        ({"type": "object", "properties": {}}, "{}", "{a:1}"),
    ],
)
def test_quoted_values(schema: Any, good: str, bad: str) -> None:
    assert allows("gemma4", with_one(schema), f"a:{good}")
    assert not allows("gemma4", with_one(schema), f"a:{bad}")


def test_a_tree() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert allows("gemma4", with_one({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": node}}), "a:{next:{next:{}}}")


@pytest.mark.parametrize("parser", FAMILIES)
@pytest.mark.parametrize("depth", [40, 5_000])
def test_depth(parser: str, depth: int) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    if depth < 100:
        GRAMMARS.matcher(grammar(parser, schema))
    else:
        with pytest.raises(InvalidRequest, match=r"^the parameters of f: it is nested too deeply$"):
            grammar(parser, schema)


def test_what_is_required_and_in_which_order() -> None:
    parameters = {"type": "object", "properties": {name: {"type": "integer"} for name in "cab"}, "required": ["a", "z"]}
    for names, is_allowed in {"caz": True, "cabz": True, "az": True, "abz": True, "cbz": False, "acz": False}.items():
        arguments = ", ".join(f"{name}=1" for name in names)
        assert allows("olmo3", parameters, arguments) is is_allowed, names
    assert not allows("olmo3", parameters, "a=1, ")


def test_others_only_where_nothing_is_listed() -> None:
    assert allows("qwen3-coder", {"additionalProperties": True}, element("any_name", "x") + element("b", "[1]"))
    assert not allows("qwen3-coder", {"type": "object"}, element("any_name", "x"))
    assert not allows("qwen3-coder", with_one({}, additionalProperties=True), element("b", "x"))


@pytest.mark.parametrize(
    ("parser", "parameters", "why"),
    [
        ("qwen3-coder", {"properties": {"a>b": {}}}, "this model cannot write the name a>b"),
        ("gemma4", {"properties": {"a b": {}}}, "this model cannot write the name a b"),
        ("qwen3-coder", with_one({"type": "string", "const": "null"}), "this model cannot write any value of a"),
    ],
)
def test_what_cannot_be_written(parser: str, parameters: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^the parameters of f: {why}$"):
        grammar(parser, parameters)


@pytest.mark.parametrize("parser", FAMILIES)
@settings(max_examples=30)
@given(
    junk=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("minLength", "maxItems", "minItems", "pattern", "items", "type", "anyOf", "$ref"), JUNK
        ),
    )
)
def test_whatever_was_sent(parser: str, junk: dict[str, Any]) -> None:
    for parameters in (junk, with_one(junk)):
        try:
            GRAMMARS.matcher(grammar(parser, parameters))
        except (InvalidRequest, GrammarRejected):
            continue
