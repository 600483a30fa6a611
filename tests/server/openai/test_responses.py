"""`POST /v1/responses`: what it asks the engine, what it refuses, how it answers."""

import json
from typing import Any

import httpx
import pytest

from engine.api import ChatRequest, Delta, Final, Message, NamedTool, Tool
from engine.errors import ContextExceeded, ModelNotFound
from tests.server.fake_engine import FakeEngine
from tests.server.http.test_docs import check, document
from tests.server.openai.test_models import openai

__all__ = ["document"]

FINAL = Final(done_reason="stop", prompt_eval_count=3, eval_count=4)
ANSWER = [Delta(thinking="hm"), Delta("Hi"), FINAL]
F, G = {"type": "function", "name": "f"}, {"type": "function", "name": "g"}


async def asked(client: httpx.AsyncClient, engine: FakeEngine, **body: Any) -> ChatRequest:
    """What the engine is asked."""
    engine.script = list(ANSWER)
    answer = await client.post("/v1/responses", json={"model": "t", "input": "x", **body})
    assert answer.status_code == 200, answer.text
    [request] = engine.asked
    assert isinstance(request, ChatRequest)
    engine.asked.clear()
    return request


async def test_the_least_request(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert await asked(client, engine) == ChatRequest(
        model="t",
        messages=[Message("user", "x")],
        options={"temperature": 1.0},
        defaults={"repeat_penalty": 1.0},
        truncate=False,
    )


async def test_instructions_come_first(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(client, engine, instructions="Be brief.", input=[{"role": "developer", "content": "Hm"}])
    assert request.messages == [Message("system", "Be brief."), Message("developer", "Hm")]


async def test_options(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = {"max_output_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": 7, "num_ctx": 512}
    request = await asked(client, engine, **body, options={"top_k": 3, "seed": 1}, keep_alive="1m")
    assert request.options == {
        "num_predict": 5,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "num_ctx": 512,
        "top_k": 3,
    }
    assert request.keep_alive == 60


@pytest.mark.parametrize(
    ("effort", "think"), [(None, None), ("none", False), ("minimal", "low"), ("high", "high"), ("xhigh", "max")]
)
async def test_effort(client: httpx.AsyncClient, engine: FakeEngine, effort: str | None, think: object) -> None:
    assert (await asked(client, engine, reasoning={"effort": effort, "summary": "auto"})).think == think


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, '"json"'),
        ({"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}, '{"type":"object"}'),
    ],
)
async def test_format(client: httpx.AsyncClient, engine: FakeEngine, form: object, expected: str | None) -> None:
    assert (await asked(client, engine, text={"format": form, "verbosity": "low"})).format == expected


@pytest.mark.parametrize(
    ("choice", "engine_choice", "tools"),
    [
        ("none", "none", ["f", "g"]),
        ("required", "required", ["f", "g"]),
        ({"type": "function", "name": "g"}, NamedTool("g"), ["f", "g"]),
        ({"type": "allowed_tools", "mode": "required", "tools": [G]}, "required", ["g"]),
    ],
)
async def test_tools(
    client: httpx.AsyncClient, engine: FakeEngine, choice: object, engine_choice: object, tools: list[str]
) -> None:
    request = await asked(client, engine, tools=[F, G], tool_choice=choice, parallel_tool_calls=False)
    assert request.tool_choice == engine_choice
    assert request.tools == tuple(Tool(name=name, type="function") for name in tools)
    assert not request.parallel_tool_calls


async def test_a_prompt_is_cut_on_request_only(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert not (await asked(client, engine, truncation="disabled")).truncate
    assert (await asked(client, engine, truncation="auto")).truncate
    assert (await asked(client, engine, truncate=True)).truncate


async def test_logprobs(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(client, engine, include=["message.output_text.logprobs"], top_logprobs=3)
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert not (await asked(client, engine, include=["reasoning.encrypted_content"])).logprobs


async def test_codex(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    """The fields that Codex sends, with tools of all of its kinds."""
    tools = [
        {"type": "function", "name": "shell", "description": "Runs", "strict": False, "parameters": {"type": "object"}},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "namespace", "name": "mcp__db", "description": "", "tools": [F]},
        {"type": "web_search", "external_web_access": False},
        {"type": "local_shell"},
    ]
    body = {
        "instructions": "You are a coding agent.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0198",
        "text": {"verbosity": "medium"},
        "client_metadata": {"x": "y"},
    }
    request = await asked(client, engine, **body)
    assert [tool.name for tool in request.tools] == ["shell", "apply_patch", "mcp__db.f"]
    assert request.messages[1] == Message("user", "Hi")


INVALID = [
    ({"model": " "}, "model is required", "model"),
    (
        {"previous_response_id": "resp_1"},
        "previous_response_id is not supported: responses are not stored: send the whole conversation as input",
        "previous_response_id",
    ),
    (
        {"conversation": {"id": "conv_1"}},
        "conversation is not supported: responses are not stored: send the whole conversation as input",
        "conversation",
    ),
    (
        {"prompt": {"id": "pmpt_1"}},
        "prompt is not supported: no prompts are stored; use instructions and input",
        "prompt",
    ),
    ({"truncation": "middle"}, 'invalid truncation (must be "auto" or "disabled")', "truncation"),
    ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20", "top_logprobs"),
    (
        {"text": {"format": {"type": "json_schema"}}},
        "text.format of type json_schema needs a schema",
        "text.format.schema",
    ),
    (
        {"text": {"format": {"type": "xml"}}},
        'invalid text.format.type (must be "text", "json_object" or "json_schema")',
        "text.format.type",
    ),
    (
        {"reasoning": {"effort": "bogus"}},
        'invalid reasoning value: "bogus" '
        '(must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")',
        "reasoning.effort",
    ),
    ({"input": [{"type": "foo"}]}, 'input[0]: unknown input item type: "foo"', "input[0]"),
    ({"tools": [F, {"type": "function"}]}, "tools[1]: name is required", "tools[1].name"),
    (
        {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [G]}},
        'tool_choice allows "g", which is not among the tools',
        "tool_choice",
    ),
    ({"max_output_tokens": 0}, "max_output_tokens must be at least 1", "max_output_tokens"),
    ({"max_output_tokens": -1}, "max_output_tokens must be at least 1", "max_output_tokens"),
    (
        {"max_output_tokens": "5"},
        "json: cannot unmarshal string into Go struct field ResponsesRequest.max_output_tokens of type int",
        "max_output_tokens",
    ),
]


@pytest.mark.parametrize(("body", "message", "param"), INVALID, ids=[param for _, _, param in INVALID])
async def test_refusals(client: httpx.AsyncClient, engine: FakeEngine, body: Any, message: str, param: str) -> None:
    answer = await client.post("/v1/responses", json={"model": "t", "input": "x", **body})
    assert answer.status_code == 400
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    assert answer.json() == {"error": error}
    assert not engine.asked


@pytest.mark.parametrize("stream", [True, False])
async def test_errors_of_the_engine(client: httpx.AsyncClient, engine: FakeEngine, stream: bool) -> None:
    engine.script = [ModelNotFound("zz")]
    answer = await client.post("/v1/responses", json={"model": "zz", "input": "x", "stream": stream})
    assert (answer.status_code, answer.json()) == (404, openai("model 'zz' not found", "not_found_error"))
    engine.script = [ContextExceeded("too long")]
    answer = await client.post("/v1/responses", json={"model": "t", "input": "x", "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("input", [None, "", []])
async def test_without_input_the_model_is_loaded(client: httpx.AsyncClient, engine: FakeEngine, input: Any) -> None:
    answer = await client.post("/v1/responses", json={"model": "t", "input": input})
    [message] = answer.json()["output"]
    assert (answer.json()["status"], message["content"][0]["text"]) == ("completed", "")
    assert [request.model for request in engine.asked] == ["t"]


async def test_without_input_the_model_is_unloaded(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await client.post("/v1/responses", json={"model": "t", "keep_alive": 0})
    assert engine.unloaded == ["t"]


async def test_the_answers_are_as_documented(
    client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]
) -> None:
    engine.script = list(ANSWER)
    check(document, await client.post("/v1/responses", json={"model": "t", "input": "x", "user": "u"}))
    engine.script = list(ANSWER)
    answer = await client.post("/v1/responses", json={"model": "t", "input": "x", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [json.loads(frame.split("data: ")[1]) for frame in answer.text.split("\n\n")[:-1]]
    assert frames[-1]["type"] == "response.completed"


async def test_the_request_is_documented(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    input = schemas["ResponsesBody"]["properties"]["input"]
    items = next(kind for kind in input["anyOf"] if kind.get("type") == "array")["items"]["anyOf"]
    assert {"$ref": "#/components/schemas/FunctionCallItem"} in items
    assert "num_ctx" in schemas["ResponsesBody"]["properties"]
