"""`/v1/chat/completions`: what it refuses, and what it asks the engine."""

from typing import Any

import httpx
import pytest

from engine.api import ChatRequest, Final, Message, NamedTool, Rendered, Tool, ToolCall
from engine.errors import ContextExceeded, ModelNotFound
from tests.server.fake_engine import FakeEngine
from tests.server.openai.sdk import check
from tests.server.openai.test_models import openai

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]
FINAL = Final(done_reason="stop", prompt_eval_count=3, eval_count=2)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "The weather", "parameters": SCHEMA}
CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rom"}'}}


async def asked(client: httpx.AsyncClient, engine: FakeEngine, **fields: Any) -> ChatRequest:
    """The request that the engine gets."""
    engine.script = [FINAL]
    answer = await client.post(PATH, json={"model": "m", "messages": HELLO, **fields})
    assert answer.status_code == 200, answer.text
    (request,) = engine.asked
    assert isinstance(request, ChatRequest)
    return request


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"model": "m"}, "[] is too short - 'messages'", "messages"),
        ({"model": "m", "messages": []}, "[] is too short - 'messages'", "messages"),
        ({"messages": HELLO}, "model is required", "model"),
        ({"model": "m", "messages": [{"role": "user"}]}, "invalid message content type: <nil>", "messages[0]"),
        ({"model": "m", "messages": [*HELLO, {"content": "Hi"}]}, "role is required", "messages[1].role"),
        ({"model": "m", "messages": [None]}, "role is required", "messages[0].role"),
        (
            {"model": "m", "messages": [{"role": "bogus", "content": "Hi"}]},
            'invalid role: "bogus" (must be "system", "developer", "user", "assistant", "tool" or "function")',
            "messages[0].role",
        ),
        ({"model": "m", "messages": HELLO, "functions": [{}]}, "functions[0]: name is required", "functions[0].name"),
        (
            {"model": "m", "messages": HELLO, "functions": [{"name": "f"}, {"name": "f"}]},
            'functions: "f" is there twice',
            "functions",
        ),
        (
            {"model": "m", "messages": HELLO, "tools": [{"type": "function"}]},
            "tools[0]: name is required",
            "tools[0].function.name",
        ),
        (
            {"model": "m", "messages": [*HELLO, {"content": 5}]},
            "invalid message content type: float64",
            "messages[1].content",
        ),
        (
            {"model": "m", "messages": [{"content": [{"type": "text", "text": "a"}, {}]}]},
            "invalid message format",
            "messages[0].content[1]",
        ),
        (
            {"model": "m", "messages": [{"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "invalid tool call arguments",
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"model": "m", "messages": HELLO, "top_logprobs": 21},
            "top_logprobs must be between 0 and 20",
            "top_logprobs",
        ),
        (
            {"model": "m", "messages": HELLO, "max_completion_tokens": 0},
            "max_completion_tokens must be at least 1",
            "max_completion_tokens",
        ),
        ({"model": "m", "messages": HELLO, "n": 0}, "n must be between 1 and 128", "n"),
        ({"model": "m", "messages": HELLO, "n": 129}, "n must be between 1 and 128", "n"),
        (
            {"model": "m", "messages": HELLO, "n": "2"},
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.n of type int",
            "n",
        ),
        (
            {"model": "m", "messages": HELLO, "temperature": "hot"},
            "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64",
            "temperature",
        ),
        (
            {"model": "m", "messages": HELLO, "tools": [{"type": "custom", "custom": {"name": "x"}}]},
            "only tools of type 'function' are supported",
            "tools[0].type",
        ),
        (
            {"model": "m", "messages": HELLO, "guided_regex": "a", "grammar": "b"},
            "guided_regex and grammar cannot be combined",
            "grammar",
        ),
    ],
)
async def test_refusals(client: httpx.AsyncClient, engine: FakeEngine, body: object, message: str, param: str) -> None:
    answer = await client.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (400, openai(message, param=param))
    assert not engine.asked


async def test_too_many_messages(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={"model": "m", "messages": [1] * 4097})
    assert answer.json() == openai("too many messages: 4097, at most 4096 are accepted", param="messages")


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_the_engine(client: httpx.AsyncClient, engine: FakeEngine, stream: bool) -> None:
    body = {"model": "zz", "messages": HELLO, "stream": stream}
    engine.script = [ModelNotFound("zz")]
    answer = await client.post(PATH, json=body)
    assert (answer.status_code, answer.json()) == (404, openai("model 'zz' not found", "not_found_error"))
    engine.script = [ContextExceeded("too long")]
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.headers["content-type"] == "application/json"


async def test_the_plainest_request(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert await asked(client, engine) == ChatRequest(
        model="m",
        messages=[Message("user", "Hi")],
        options={"temperature": 1.0, "top_p": 1.0},
        defaults={"repeat_penalty": 1.0},
        truncate=False,
    )


async def test_options(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(
        client,
        engine,
        temperature=0,
        max_tokens=5,
        max_completion_tokens=7,
        seed=3,
        stop=["a", 1, "b"],
        presence_penalty=0.5,
        logit_bias={"7": -100},
        top_k=4,
        keep_alive="1m",
        num_ctx=64,
        options={"top_k": 1, "top_p": 0.5},
    )
    assert request.keep_alive == 60
    assert request.options == {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 4,
        "num_predict": 7,
        "seed": 3,
        "stop": ["a", "b"],
        "presence_penalty": 0.5,
        "logit_bias": {"7": -100},
        "num_ctx": 64,
    }


async def test_a_stop_text_alone(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert (await asked(client, engine, stop="a", max_tokens=5)).options["stop"] == ["a"]


async def test_fields_without_effect(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(
        client,
        engine,
        service_tier="auto",
        store=True,
        metadata={"a": "b"},
        user="me",
        prediction={"type": "content", "content": "x"},
        modalities=["text"],
        safety_identifier="x",
        prompt_cache_key="x",
        verbosity="low",
        think=False,
        web_search_options={},
        top_logprobs=5,
        unknown=[1],
    )
    engine.asked.clear()
    assert request == await asked(client, engine)


async def test_other_fields(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(
        client,
        engine,
        reasoning_effort="low",
        response_format={"type": "json_object"},
        truncate=True,
        logprobs=True,
        top_logprobs=2,
        parallel_tool_calls=False,
    )
    assert (request.think, request.format, request.truncate, request.parallel_tool_calls) == (
        "low",
        '"json"',
        True,
        False,
    )
    assert (request.logprobs, request.top_logprobs) == (True, 2)


async def test_a_conversation(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    messages = [
        {"role": "Developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c9", "name": "other", "content": "rain"},
        {"role": "assistant", "content": "Sun.", "reasoning": "so"},
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}},
        {"role": "function", "name": "weather", "content": "snow"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "name": "Ann", "content": "Hi"},
    ]
    assert (await asked(client, engine, messages=messages)).messages == [
        Message("developer", "Be\nbrief."),
        Message("assistant", thinking="hm", tool_calls=(ToolCall("weather", {"city": "Rom"}, "c1"),)),
        Message("tool", "sunny", tool_name="weather", tool_call_id="c1"),
        Message("tool", "rain", tool_name="other", tool_call_id="c9"),
        Message("assistant", "Sun.", thinking="so"),
        Message("assistant", tool_calls=(ToolCall("weather"),)),
        Message("tool", "snow", tool_name="weather"),
        Message("assistant", "No."),
        Message("user", "Hi"),
    ]


async def test_a_message_with_an_empty_list_of_calls_may_have_no_content(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": []}
    request = await asked(client, engine, messages=[*HELLO, message])
    assert request.messages[1] == Message("assistant", "")


async def test_tools(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    tools = [
        {"type": "function", "function": WEATHER | {"strict": True}},
        {"type": "function", "function": {"name": "b"}},
    ]
    request = await asked(client, engine, tools=tools, tool_choice="required")
    assert [tool.name for tool in request.tools] == ["weather", "b"]
    assert request.tools[0].sent == SCHEMA
    assert request.tool_choice == "required"
    engine.asked.clear()
    only = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tools[1]]}}
    request = await asked(client, engine, tools=tools, tool_choice=only)
    assert [tool.name for tool in request.tools] == ["b"]


async def test_functions(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    request = await asked(client, engine, functions=[WEATHER], function_call={"name": "weather"})
    assert isinstance(request.tools[0], Tool)
    assert (request.tools[0].name, request.tools[0].sent) == ("weather", SCHEMA)
    assert (request.tool_choice, request.parallel_tool_calls) == (NamedTool("weather"), False)


async def test_choices_have_seeds_of_their_own(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [FINAL]
    await client.post(PATH, json={"model": "m", "messages": HELLO, "n": 3, "seed": 7})
    assert sorted(request.options["seed"] for request in engine.asked) == [7, 8, 9]
    engine.asked.clear()
    await client.post(PATH, json={"model": "m", "messages": HELLO, "n": 2})
    assert [request.options.get("seed") for request in engine.asked] == [None, None]


@pytest.mark.parametrize("stream", [False, True])
async def test_render_only(client: httpx.AsyncClient, engine: FakeEngine, stream: bool) -> None:
    engine.script = [Rendered("the prompt", 1)]
    body = {"model": "m", "messages": HELLO, "stream": stream, "_debug_render_only": True}
    answer = (await client.post(PATH, json=body)).json()
    assert answer["_debug_info"] == {"rendered_template": "the prompt", "image_count": 1}
    assert answer["object"] == "chat.completion"
    assert check({**answer, "choices": []})["usage"]["total_tokens"] == 0
