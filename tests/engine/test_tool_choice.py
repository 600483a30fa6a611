"""`tool_choice` on a real model that is too small to choose well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from engine import prompting
from engine.api import CallPart, ChatRequest, Delta, Event, Final, Message, NamedTool, ToolCall, ToolChoice
from engine.chat.output import NAMED
from engine.engine import Engine
from engine.errors import CapabilityMissing, InvalidRequest
from engine.messages import Grammar
from modelfile.conversation import Json, Tool
from registry import bundled
from registry.manifest import MODEL, TEMPLATE, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.chat.renderers.test_forced import PARSERS
from tests.engine.running import running, unload_all
from tests.serving import GREEDY
from tests.tools import tool_of

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city"],
}
ORDER = {
    "$defs": {
        "Line": {
            "type": "object",
            "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}, "count": {"type": "integer"}},
            "required": ["sku", "count"],
        }
    },
    "type": "object",
    "properties": {
        "zip": {"type": "string", "minLength": 5, "maxLength": 5},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "minItems": 1, "maxItems": 3},
        "express": {"type": "boolean"},
        "address": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["zip", "lines", "express", "address"],
}
SCHEMAS = {"get_current_weather": WEATHER, "place_order": ORDER, 'odd "name"': {"type": "object", "properties": {}}}
QUESTION = "What is the weather in Paris?"
SEEDS = range(6)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def tool(name: str) -> dict[str, Any]:
    """As a template sees it: what the API does not know is gone."""
    properties = SCHEMAS[name]["properties"]
    known = {key: {"type": value["type"]} if "type" in value else {} for key, value in properties.items()}
    parameters = {"type": "object", "properties": known}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def declared(*names: str, **sent: Any) -> tuple[Tool, ...]:
    """Tools with what was sent of their schemas, which is more than templates see."""
    return tuple(tool_of(tool(name), sent.get(name, SCHEMAS[name])) for name in names)


TOOLS = declared(*SCHEMAS)
BRIEF = {"type": "string", "maxLength": 40}
BRIEF_TOOLS = declared(
    *("get_current_weather", "place_order"),
    get_current_weather=WEATHER | {"properties": WEATHER["properties"] | {"city": BRIEF}},
    place_order=ORDER | {"properties": ORDER["properties"] | {"address": {"anyOf": [BRIEF, {"type": "null"}]}}},
)
"""Two of them, whose arguments a model that writes at random completes by itself."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(models: Path) -> AsyncIterator[Engine]:
    async with running(models) as engine:
        yield engine


def ask(choice: ToolChoice, question: str = QUESTION, **fields: Any) -> ChatRequest:
    options = GREEDY | {"num_predict": 150} | fields.pop("options", {})
    given = {"model": "tinychat", "tools": TOOLS, "think": False}
    given |= {"messages": [Message("user", question)]} | fields
    return ChatRequest(tool_choice=choice, options=options, **given)


async def collect(events: AsyncIterator[Event]) -> tuple[str, str, list[ToolCall], Final]:
    content, thinking, calls = "", "", []
    async for event in events:
        if isinstance(event, Delta):
            content += event.content
            thinking += event.thinking
            calls += event.tool_calls
    assert isinstance(event, Final)
    return content, thinking, calls, event


def heats() -> list[dict[str, Any]]:
    return [{}, {"temperature": 0, "repeat_penalty": 1.5}, *({"temperature": 1.5, "seed": seed} for seed in SEEDS)]


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("think", [False, None])
async def test_a_named_function_is_called_once(engine: Engine, name: str, think: bool | None) -> None:
    asked = [engine.chat(ask(NamedTool(name), think=think, options=options)) for options in heats()]
    for content, _, calls, final in await asyncio.gather(*map(collect, asked)):
        (call,) = calls
        assert (call.name, content) == (name, "")
        jsonschema.validate(call.arguments, SCHEMAS[name])
        assert set(call.arguments) <= set(SCHEMAS[name]["properties"])
        assert final.done_reason in ("tool_calls", "length")


@pytest.mark.parametrize("think", [False, None])
async def test_required_is_at_least_one_call_of_any(engine: Engine, think: bool | None) -> None:
    asked = [engine.chat(ask("required", "Hello!", think=think, options=options)) for options in heats()]
    for content, _, calls, _ in await asyncio.gather(*map(collect, asked)):
        assert calls
        assert content == ""
        for call in calls:
            jsonschema.validate(call.arguments, SCHEMAS[call.name])


async def test_the_model_says_what_it_would_have_said(engine: Engine) -> None:
    for choice in ("auto", "required", NamedTool("get_current_weather")):
        content, _, calls, final = await collect(engine.chat(ask(choice)))
        assert [(call.name, call.arguments) for call in calls] == [("get_current_weather", {"city": "Paris"})]
        assert (content, final.done_reason) == ("", "tool_calls")


async def test_several_calls(engine: Engine) -> None:
    question = "What is the weather in Paris and London?"
    tools = declared("get_current_weather")
    _, _, calls, _ = await collect(engine.chat(ask("required", question, tools=tools)))
    assert [call.arguments["city"] for call in calls] == ["Paris", "London"]
    assert [call.index for call in calls] == [0, 1]
    _, _, calls, _ = await collect(engine.chat(ask(NamedTool("get_current_weather"), question, tools=tools)))
    assert [call.arguments["city"] for call in calls] == ["Paris"]


async def test_arguments_keep_the_order_of_the_schema(engine: Engine) -> None:
    _, _, (call,), _ = await collect(engine.chat(ask(NamedTool("place_order"))))
    assert list(call.arguments) == ["zip", "lines", "express", "address"]


async def test_thoughts_come_before_a_call(engine: Engine) -> None:
    _, thinking, calls, _ = await collect(engine.chat(ask("required", "Count to 5", think=True)))
    assert thinking.startswith("I will count")
    assert calls


async def test_none_shows_no_tools_and_calls_none(engine: Engine) -> None:
    request = ask("none")
    content, _, calls, _ = await collect(engine.chat(request))
    assert content
    assert calls == []
    request.tools = ()
    assert (await collect(engine.chat(request)))[0] == content


async def test_none_with_a_model_that_calls_all_the_same(engine: Engine) -> None:
    template = (
        "<|im_start|>system\n# Tools\n\nYou may call these functions:\n<tools>\n"
        f"{json.dumps(tool('get_current_weather'))}\n</tools>\n\nTo call a function, answer with:\n"
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    store_parser_model(engine.store, "caller", "qwen3", template)
    for choice, count in (("auto", 1), ("none", 0)):
        content, _, calls, _ = await collect(engine.chat(ask(choice, model="caller")))
        assert (content, len(calls)) == ("", count)


async def test_a_call_or_json(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    content, _, calls, _ = await collect(engine.chat(ask("auto", format=json.dumps(schema))))
    assert (content, [call.arguments for call in calls]) == ("", [{"city": "Paris"}])
    like_json = ask("auto", "List 3 fruits as JSON", tools=declared("get_current_weather"), format=json.dumps(schema))
    content, _, calls, _ = await collect(engine.chat(like_json))
    assert calls == []
    jsonschema.validate(json.loads(content), schema)


async def test_eight_at_once_with_different_choices(engine: Engine) -> None:
    choices: list[ToolChoice] = ["auto", "none", "required", *map(NamedTool, SCHEMAS), "auto", "none"]
    alone = [(await collect(engine.chat(ask(choice))))[:3] for choice in choices]
    together = await asyncio.gather(*(collect(engine.chat(ask(choice))) for choice in choices))

    def told(answers: Any) -> list[Any]:
        return [(content, thinking, [(c.name, c.arguments) for c in calls]) for content, thinking, calls, *_ in answers]

    assert told(together) == told(alone)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"choice": NamedTool("nosuch")}, '^tool_choice names "nosuch", which is not among the tools$'),
        ({"choice": "required", "tools": ()}, "^tool_choice demands a call, but there are no tools$"),
        ({"choice": NamedTool("x"), "tools": ()}, '^tool_choice names "x", which is not among the tools$'),
        ({"choice": "required", "tools": (Tool(type="function"),)}, "^the tools have no names$"),
        (
            {"choice": "required", "tools": declared(*SCHEMAS, place_order={"properties": {"a": {"type": "nosuch"}}})},
            "^the parameters of place_order: Invalid type: nosuch$",
        ),
        (
            {"choice": "required", "tools": declared(*SCHEMAS, place_order={"type": "array"})},
            '^the parameters of place_order: they must be of type "object"$',
        ),
        (
            {"choice": "required", "tools": declared(*SCHEMAS, place_order={"enum": ["x" * 300_000]})},
            "^the parameters of the tools are too large",
        ),
    ],
)
async def test_what_cannot_be_required(engine: Engine, fields: dict[str, Any], why: str) -> None:
    await unload_all(engine)
    with pytest.raises(InvalidRequest, match=why) as caught:
        await collect(engine.chat(ask(**fields)))
    assert caught.value.field == ("tool_choice" if "tool_choice" in why else "tools")
    assert engine.running() == []


def store_parser_model(store: Store, name: str, parser: str, template: str, renderer: str = "") -> None:
    """The bundled model with a Go template or a renderer; its answers are read by a parser."""
    base = store.find(ModelName.parse("tinychat")).manifest
    config = json.loads(store.read_blob(base.config.digest, 1 << 20)) | {"parser": parser, "renderer": renderer}
    described = Layer(base.config.media_type, *store.add_blob(json.dumps(config).encode()))
    weights = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    layers = (Layer(MODEL, *store.add_blob(weights)), Layer(TEMPLATE, *store.add_blob(template.encode())))
    store.write_manifest(ModelName.parse(name), Manifest(described, layers))


@pytest.mark.parametrize(
    ("renderer", "parser", "choice"),
    [(*family, choice) for family, choice in zip(PARSERS.items(), cycle(("required", "named")), strict=False)],
)
async def test_a_call_in_the_words_of_every_family(engine: Engine, renderer: str, parser: str, choice: str) -> None:
    store_parser_model(engine.store, renderer, parser, "{{ .Prompt }}", renderer)
    fields: dict[str, Any] = {"model": renderer, "tools": BRIEF_TOOLS}
    fields |= {"options": {"num_predict": 240, "temperature": 1.5, "seed": 1}, "think": NAMED[parser].thinking}
    sent = {tool.name: tool.sent for tool in BRIEF_TOOLS}
    tool_choice: ToolChoice = NamedTool("place_order") if choice == "named" else "required"
    content, _, calls, _ = await collect(engine.chat(ask(tool_choice, **fields)))
    assert calls
    assert content == ""
    for call in calls:
        jsonschema.validate(call.arguments, sent[call.name])
    assert choice == "required" or {call.name for call in calls} == {"place_order"}


async def test_a_model_that_cannot_call(engine: Engine) -> None:
    store_parser_model(engine.store, "mute", "passthrough", "{{ .Prompt }}")
    with pytest.raises(CapabilityMissing, match="does not support tools"):
        await collect(engine.chat(ask("required", model="mute")))


async def test_a_name_that_a_model_cannot_write(engine: Engine) -> None:
    store_parser_model(engine.store, "coder", "qwen3-coder", "{{ .Prompt }}", "qwen3-coder")
    with pytest.raises(InvalidRequest, match=r"^tool_choice cannot be enforced: this model cannot write the name"):
        await collect(engine.chat(ask("required", model="coder", tools=(Tool("a\nb"),))))


async def test_a_model_without_tools(engine: Engine) -> None:
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    base = engine.store.find(ModelName.parse("tinychat")).manifest
    plain = data.replace(b"tool_call", b"tool-call").replace(b"tools", b"toals")
    manifest = Manifest(base.config, (Layer(MODEL, *engine.store.add_blob(plain)),))
    engine.store.write_manifest(ModelName.parse("plain"), manifest)
    with pytest.raises(CapabilityMissing, match="does not support tools"):
        await collect(engine.chat(ask("required", model="plain")))
    assert (await collect(engine.chat(ask("none", "Hi", model="plain"))))[2] == []


SHORT_UNITS = WEATHER | {
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"],
}
BOTH = "What is the weather in Paris and London?"


def unconstrained(patch: pytest.MonkeyPatch) -> None:
    """No grammar holds calls that the model makes by itself."""
    patch.setattr(prompting, "call_triggers", lambda *_, **__: None)


def weather(sent: Json = SHORT_UNITS) -> tuple[Tool, ...]:
    return declared("get_current_weather", get_current_weather=sent)


async def test_a_call_that_the_model_begins_is_held_to_the_schema(engine: Engine) -> None:
    async def units(**fields: Any) -> list[Any]:
        asked = [engine.chat(ask("auto", tools=weather(), options=options, **fields)) for options in heats()]
        answers = await asyncio.gather(*map(collect, asked))
        return [call.arguments.get("unit") for _, _, calls, _ in answers for call in calls]

    held = await units()
    assert len(held) > 5
    assert set(held) <= {"c", "f"}
    with pytest.MonkeyPatch.context() as patch:
        unconstrained(patch)
        assert not set(await units()) <= {"c", "f"}, "the test is about nothing"


async def test_free_text_is_what_it_was(engine: Engine) -> None:
    for question in ("Hello!", "What is the capital of France?", "Count to 20"):
        held = await collect(engine.chat(ask("auto", question, tools=weather())))
        with pytest.MonkeyPatch.context() as patch:
            unconstrained(patch)
            free = await collect(engine.chat(ask("auto", question, tools=weather())))
        assert held[:3] == free[:3]
        assert (held[3].done_reason, held[3].eval_count) == (free[3].done_reason, free[3].eval_count)


async def test_calls_behind_each_other_and_behind_reasoning_are_held(engine: Engine) -> None:
    _, _, calls, final = await collect(engine.chat(ask("auto", BOTH, tools=weather())))
    assert [call.arguments["city"] for call in calls] == ["Paris", "London"]
    for call in calls:
        jsonschema.validate(call.arguments, SHORT_UNITS)
    assert final.done_reason == "tool_calls"


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_one_call_at_most(engine: Engine, choice: ToolChoice) -> None:
    request = ask(choice, BOTH, tools=weather(), parallel_tool_calls=False)
    content, _, (call,), final = await collect(engine.chat(request))
    assert (content, call.index, call.arguments["city"], final.done_reason) == ("", 0, "Paris", "tool_calls")


async def test_one_call_at_most_where_no_grammar_holds(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    unconstrained(monkeypatch)
    request = ask("auto", BOTH, tools=weather(), parallel_tool_calls=False)
    _, _, calls, _ = await collect(engine.chat(request))
    assert [call.arguments["city"] for call in calls] == ["Paris"]


@pytest.mark.parametrize(
    "sent", [{"properties": {"a": {"type": "nosuch"}}}, {"enum": ["x" * 300_000]}, {"pattern": 7, "properties": 7}]
)
async def test_a_schema_that_cannot_be_enforced_fails_nothing(engine: Engine, sent: Json) -> None:
    _, _, (call,), _ = await collect(engine.chat(ask("auto", tools=weather(sent))))
    assert (call.name, call.arguments["city"]) == ("get_current_weather", "Paris")


@pytest.mark.parametrize("refused", ["unit", "city"])
async def test_a_grammar_that_is_too_much_fails_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    check = engine._validator.check

    async def strict(grammar: Grammar, what: str) -> None:
        if refused == "city" or refused in grammar.rules:
            raise InvalidRequest(f"{what}: it is too complex")
        await check(grammar, what)

    monkeypatch.setattr(engine._validator, "check", strict)
    _, _, (call,), _ = await collect(engine.chat(ask("auto", tools=weather())))
    assert call.arguments["city"] == "Paris"
    refusals = [record for record in caplog.records if "not held to their schemas" in record.getMessage()]
    assert len(refusals) == {"unit": 1, "city": 2}[refused]


async def test_an_answer_begins_before_its_grammar_is_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, valid = asyncio.Event(), engine._valid_calls

    async def late(*args: Any) -> Any:
        await begun.wait()
        return await valid(*args)

    monkeypatch.setattr(engine, "_valid_calls", late)
    text = ""
    async for event in engine.chat(ask("auto", "Count to 20", tools=weather())):
        begun.set()
        text += event.content if isinstance(event, Delta) else ""
    assert text


async def test_a_call_waits_for_its_grammar(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = engine._valid_calls

    async def late(*args: Any) -> Any:
        await asyncio.sleep(0.5)
        return await valid(*args)

    monkeypatch.setattr(engine, "_valid_calls", late)
    _, _, (call,), _ = await collect(engine.chat(ask("auto", tools=weather())))
    jsonschema.validate(call.arguments, SHORT_UNITS)


async def test_only_functions_that_exist_are_called(engine: Engine) -> None:
    tools = tuple(replace(tool, name=f"f{n}") for n in range(10) for tool in weather())
    _, _, calls, _ = await collect(engine.chat(ask("auto", tools=(*tools, *weather()))))
    assert calls
    for call in calls:
        jsonschema.validate(call.arguments, SHORT_UNITS)


async def told(engine: Engine, request: ChatRequest) -> tuple[dict[int, list[CallPart]], list[ToolCall], str, Final]:
    """The parts of each call, the complete calls, the content and the end of an answer."""
    parts: dict[int, list[CallPart]] = {}
    events = [event async for event in engine.chat(request)]
    deltas, final = [event for event in events if isinstance(event, Delta)], events[-1]
    for part in (part for delta in deltas for part in delta.call_parts):
        parts.setdefault(part.index, []).append(part)
    assert isinstance(final, Final)
    return parts, [call for delta in deltas for call in delta.tool_calls], "".join(d.content for d in deltas), final


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required", NamedTool("get_current_weather")])
async def test_arguments_come_as_they_are_written(engine: Engine, choice: ToolChoice, logprobs: bool) -> None:
    request = ask(choice, BOTH, tools=weather(), logprobs=logprobs)
    parts, calls, content, _ = await told(engine, request)
    assert content == ""
    assert len(calls) == (1 if isinstance(choice, NamedTool) else 2)
    assert list(parts) == [call.index for call in calls]
    for call in calls:
        first, *pieces = parts[call.index]
        assert (first.id, first.name, first.arguments) == (call.id, call.name, "")
        assert len(pieces) > (3 if logprobs else 0), "with log-probabilities each token is told alone"
        assert json.loads("".join(piece.arguments for piece in pieces)) == call.arguments


async def test_an_answer_that_is_cut_in_its_arguments(engine: Engine) -> None:
    request = ask("auto", tools=weather(), options={"num_predict": 16})
    parts, calls, content, final = await told(engine, request)
    assert (calls, content, final.done_reason) == ([], "", "length")
    assert "".join(part.arguments for part in parts[0]).startswith('{"city":')


async def test_what_no_grammar_holds_comes_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    unconstrained(monkeypatch)
    parts, calls, _, _ = await told(engine, ask("auto", BOTH, tools=weather()))
    assert (parts, len(calls)) == ({}, 2)


async def test_no_parts_of_a_call_that_is_too_much(engine: Engine) -> None:
    parts, calls, _, _ = await told(engine, ask("auto", BOTH, tools=weather(), parallel_tool_calls=False))
    assert (list(parts), len(calls)) == ([0], 1)
