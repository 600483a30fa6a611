"""`format` on a real model: JSON, JSON to the schemas that clients send, patterns, choices and grammars."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from engine.api import ChatRequest, GenerateRequest, Message
from engine.engine import Engine
from engine.errors import InvalidRequest
from tests.engine.running import collect, running, unload_all
from tests.serving import GREEDY

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTRY = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "capital": {"type": "string"},
        "languages": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "capital", "languages"],
}
PYDANTIC = {
    "$defs": {
        "Color": {"enum": ["red", "green"], "title": "Color", "type": "string"},
        "Cat": {
            "properties": {"kind": {"const": "cat", "title": "Kind", "type": "string"}, "lives": {"type": "integer"}},
            "required": ["kind", "lives"],
            "title": "Cat",
            "type": "object",
        },
        "Dog": {
            "properties": {
                "kind": {"const": "dog", "title": "Kind", "type": "string"},
                "color": {"$ref": "#/$defs/Color"},
            },
            "required": ["kind", "color"],
            "title": "Dog",
            "type": "object",
        },
    },
    "properties": {
        "pet": {
            "discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"},
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            "title": "Pet",
        },
        "nickname": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Nickname"},
        "favourite": {"allOf": [{"$ref": "#/$defs/Color"}], "default": "red", "description": "the best one"},
    },
    "required": ["pet"],
    "title": "Owner",
    "type": "object",
}
LIMITS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"},
        "day": {"type": "string", "format": "date"},
        "word": {"type": "string", "minLength": 3, "maxLength": 8},
        "pair": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2, "uniqueItems": False},
    },
    "required": ["id", "share", "code", "day", "word", "pair"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "children"],
        }
    },
    "$ref": "#/$defs/node",
}
UNKNOWN_WORDS = {
    "$id": "https://example.com/thing",
    "type": "object",
    "properties": {"a": {"type": "string", "format": "nosuch", "contentEncoding": "base64"}, "b": True},
    "required": ["a"],
    "if": {"properties": {"a": {"const": "x"}}},
    "then": {"required": ["b"]},
    "not": {"required": ["c"]},
    "dependentRequired": {"b": ["a"]},
    "x-order": 1,
}
SCHEMAS = {
    "country": COUNTRY,
    "pydantic": PYDANTIC,
    "limits": LIMITS,
    "tree": TREE,
    "unknown words": UNKNOWN_WORDS,
    "choice": {"enum": ["red", "green", "blue", 7, None]},
    "array": {"type": "array", "items": COUNTRY, "minItems": 1, "maxItems": 2},
    "nullable": {"type": ["object", "null"], "properties": {"a": {"type": ["integer", "string"]}}, "required": ["a"]},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "anything": {},
}


SUM = 'root ::= part ("+" part)* " = " [0-9]+\npart ::= [0-9]+ | "(" part ("+" part)* ")"'
ARRAY = 'start: "[" [NUMBER ("," NUMBER)*] "]"\nNUMBER: /[0-9]{1,3}/\n%ignore / /'
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "regex": ({"type": "regex", "pattern": r"^(?i:capital): [A-Z][a-z]+\.$"}, r"(?i:capital): [A-Z][a-z]+\."),
    "choice": ({"type": "choice", "choices": ["Paris", 'the "city"', "{\x7f}\n"]}, 'Paris|the "city"|{\x7f}\n'),
    "gbnf": ({"type": "gbnf", "grammar": SUM}, r"[0-9+()]+ = [0-9]+"),
    "lark": ({"type": "lark", "grammar": ARRAY}, r"\[( *[0-9]{1,3}( *, *[0-9]{1,3})*)? *\]"),
}
"""Formats that are no schemas, and what their answers look like."""

HEAVY = "x?" * 150 + "x" * 150  # an automaton of too many states


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(models: Path) -> AsyncIterator[Engine]:
    async with running(models) as engine:
        yield engine


def generation(format: Any, prompt: str = "Tell me about France as JSON.", **fields: Any) -> GenerateRequest:
    options = GREEDY | {"num_predict": 120} | fields.pop("options", {})
    return GenerateRequest(model="tinychat", prompt=prompt, format=json.dumps(format), options=options, **fields)


def conversation(format: Any, prompt: str = "Tell me about France as JSON.", **fields: Any) -> ChatRequest:
    options = GREEDY | {"num_predict": 120} | fields.pop("options", {})
    messages = [Message("user", prompt)]
    return ChatRequest(model="tinychat", messages=messages, format=json.dumps(format), options=options, **fields)


@pytest.mark.parametrize("name", SCHEMAS)
async def test_every_answer_is_as_the_schema_says(engine: Engine, name: str) -> None:
    schema = SCHEMAS[name]
    hot = [{"temperature": 1.5, "seed": seed} for seed in range(6)]
    asked = [engine.generate(generation(schema, options=options, think=False)) for options in [{}, *hot]]
    asked.append(engine.chat(conversation(schema, think=True)))
    for content, _, _ in await asyncio.gather(*map(collect, asked)):
        jsonschema.validate(json.loads(content), schema)


async def test_json_is_an_object(engine: Engine) -> None:
    hot = [{"temperature": 1.5, "seed": seed} for seed in range(8)]
    asked = [engine.generate(generation("json", "Hi", options=options)) for options in [{}, *hot]]
    asked.append(engine.chat(conversation("json", "Hi")))
    for content, _, _ in await asyncio.gather(*map(collect, asked)):
        assert isinstance(json.loads(content), dict)


@pytest.mark.parametrize("think", [None, True])
async def test_thoughts_come_first_and_are_free(engine: Engine, think: bool | None) -> None:
    for events in (engine.generate(generation(COUNTRY, think=think)), engine.chat(conversation(COUNTRY, think=think))):
        content, thinking, final = await collect(events)
        assert thinking.startswith("The user wants JSON")
        assert json.loads(content) == {"name": "France", "capital": "Paris", "languages": ["French"]}
        assert final.done_reason == "stop"


async def test_without_thoughts_the_first_token_counts(engine: Engine) -> None:
    for events in (engine.generate(generation(COUNTRY, think=False)), engine.chat(conversation(COUNTRY, think=False))):
        content, thinking, _ = await collect(events)
        assert (content[0], content[-1], thinking) == ("{", "}", "")


async def test_a_raw_prompt(engine: Engine) -> None:
    content, thinking, _ = await collect(engine.generate(generation(COUNTRY, raw=True)))
    assert list(json.loads(content)) == ["name", "capital", "languages"]
    assert thinking == ""


async def test_the_keys_come_as_in_the_schema(engine: Engine) -> None:
    for names in (["zebra", "apple", "mango"], ["mango", "zebra", "apple"]):
        schema = {"properties": {key: {"type": "boolean"} for key in names}, "required": sorted(names)}
        content, _, _ = await collect(engine.generate(generation({"type": "object", **schema})))
        assert list(json.loads(content)) == names


async def test_an_answer_that_may_be_no_longer_is_whole(engine: Engine) -> None:
    story = {"type": "object", "properties": {"story": {"type": "string"}}, "required": ["story"]}
    request = generation(story, "Tell me a long story.", think=False, options={"num_predict": 24})
    content, _, final = await collect(engine.generate(request))
    jsonschema.validate(json.loads(content), story)
    assert (final.done_reason, final.eval_count <= 24) == ("length", True)


async def test_a_continued_answer_is_held_to_the_schema_from_there(engine: Engine) -> None:
    request = conversation({"const": 5})
    request.messages.append(Message("assistant", "The answer is "))
    content, _, _ = await collect(engine.chat(request))
    assert content == "The answer is 5"


@pytest.mark.parametrize("name", FORMS)
async def test_every_answer_is_as_the_form_says(engine: Engine, name: str) -> None:
    form, pattern = FORMS[name]
    hot = [{"temperature": 1.5, "seed": seed, "num_predict": 30} for seed in range(4)]
    asked = [engine.generate(generation(form, options=options, think=False)) for options in [{}, *hot]]
    asked.append(engine.chat(conversation(form, think=True)))
    answers = await asyncio.gather(*map(collect, asked))
    for content, _, final in answers:
        assert re.fullmatch(pattern, content), (content, final)
    assert answers[-1][1]


async def test_names_of_a_grammar_clash_with_nothing(engine: Engine) -> None:
    grammar = 'start: until_0 | answer content\nuntil_0: "x"\nanswer: GAP\nGAP: "yes"\ncontent: TEXT\nTEXT: "!"+'
    for think in (False, True):
        content, _, _ = await collect(engine.chat(conversation({"type": "lark", "grammar": grammar}, think=think)))
        assert re.fullmatch("x|yes!+", content)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"type": "regex"}, 'type "regex" needs "pattern"'),
        ({"type": "regex", "pattern": 5}, '"pattern" must be a text'),
        ({"type": "regex", "pattern": "(a"}, "pattern: it has a parenthesis that is not closed"),
        ({"type": "regex", "pattern": "a$b"}, "pattern: no text matches it"),
        ({"type": "regex", "pattern": "a" * 300_000}, '"pattern" is too large: at most 65536 characters are accepted'),
        ({"type": "choice", "choices": []}, '"choices" must be a list of texts with at least one'),
        ({"type": "choice", "choices": ["a", 5]}, '"choices" must be a list of texts with at least one'),
        ({"type": "gbnf", "grammar": 'root ::= "a"\nb ::= ('}, "line 2: a parenthesis is not closed"),
        ({"type": "gbnf", "grammar": 'root ::= "a" root'}, "no text matches it: its rules never end"),
        ({"type": "lark", "grammar": "start: a\na: nosuch"}, 'line 2, column 4: unknown name: "nosuch"'),
        ({"type": "lark", "grammar": '\n\nstart: "a" ? ?'}, r"line 3, column 14: Expected value"),
        ({"type": "regex", "pattern": "(?!)"}, "it contradicts itself: no answer would do"),
        ({"type": "regex", "pattern": "(?=a)b"}, "it contradicts itself: no answer would do"),
        ({"type": "regex", "pattern": r"\ud800"}, "pattern: no text matches it"),
        ({"type": "regex", "pattern": r"[\ud83d]"}, "pattern: no text matches it"),
        ({"type": "choice", "choices": ["a\ud800"]}, "it has half of a surrogate pair"),
        ({"type": "lark", "grammar": r'start: "\ud800"'}, "line 1, column 16: error parsing string"),
        ({"type": "lark", "grammar": ""}, "it has no rule start"),
        ({"type": "lark", "grammar": "start: start"}, "it contradicts itself: no answer would do"),
        ({"type": "lark", "grammar": 'begin: "a"'}, "no start rule found"),
        ({"type": "lark", "grammar": "start: @nosuch"}, "unknown grammar @nosuch"),
        ({"type": "lark", "grammar": '// <a>\nstart: "<b>" <c>'}, "line 2: tokens of the model, such as <c>, cannot"),
        ({"type": "lark", "grammar": 'start: a\na[stop="x"]: /y/'}, "line 2: stop= is not supported"),
        ({"type": "lark", "grammar": 'start: %json {"type": "nosuch"}'}, "line 1, column 8: Invalid type: nosuch"),
    ],
    ids=str,
)
async def test_a_form_that_cannot_be_used_is_refused(engine: Engine, form: dict[str, Any], why: str) -> None:
    await unload_all(engine)
    with pytest.raises(InvalidRequest) as caught:
        await collect(engine.generate(generation(form)))
    assert str(caught.value).startswith(f"invalid format: {why}")
    assert caught.value.field == "format"
    assert engine.running() == []


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_ends_in_time(engine: Engine, name: str) -> None:
    form, pattern = FORMS[name]
    options = {"num_predict": 12, "temperature": 1.5, "seed": 3}
    content, _, _ = await collect(engine.generate(generation(form, options=options, think=False)))
    assert re.fullmatch(pattern, content)


@pytest.mark.parametrize("value", ["xml", 5, [1], True])
async def test_what_is_no_format(engine: Engine, value: Any) -> None:
    quoted = json.dumps(json.dumps(value))
    for events in (engine.generate(generation(value)), engine.chat(conversation(value))):
        with pytest.raises(InvalidRequest) as caught:
            await collect(events)
        assert str(caught.value) == f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nosuch"}, "Invalid type: nosuch"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "it contradicts itself: no value would do"),
        ({"$ref": "#/$defs/nosuch"}, "does not exist"),
    ],
)
async def test_a_schema_that_is_none_is_refused_before_the_model_is_loaded(
    engine: Engine, schema: Any, why: str
) -> None:
    await unload_all(engine)
    with pytest.raises(InvalidRequest, match=f"^invalid format: .*{why}"):
        await collect(engine.generate(generation(schema)))
    assert engine.running() == []


async def test_a_hostile_schema_disturbs_nobody(engine: Engine) -> None:
    asked = [generation(COUNTRY), GenerateRequest(model="tinychat", prompt="Count to 20", options=dict(GREEDY))]
    alone = [(await collect(engine.generate(request)))[0] for request in asked]
    links = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"type": "null"}]} for n in range(3_000)}
    hostile = [{"$defs": links | {"d3000": {}}, "$ref": "#/$defs/d0"}, {"type": "string", "pattern": HEAVY}]
    events = [*(engine.generate(generation(schema)) for schema in hostile), *map(engine.generate, asked)]
    outcomes = await asyncio.gather(*map(collect, events), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [InvalidRequest, InvalidRequest, tuple, tuple]
    assert [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)] == alone


async def test_loading_does_not_look_at_the_format(engine: Engine) -> None:
    await unload_all(engine)
    await engine.load(generation("xml", ""))
    assert len(engine.running()) == 1
