"""`format` on a real model: JSON, and JSON to the schemas that clients send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.api import ChatRequest, GenerateRequest, Message
from engine.engine import Engine
from engine.errors import InvalidRequest
from tests.engine.running import collect, running
from tests.serving import GREEDY

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


HEAVY = "x?" * 150 + "x" * 150  # an automaton of too many states


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
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
    await engine.load(generation("xml", ""))
    assert len(engine.running()) == 1
