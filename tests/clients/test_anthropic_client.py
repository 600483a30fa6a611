"""Anthropic's official Python client: what its users do, streaming and not."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool
from anthropic.types import Message, MessageParam, ModelInfo, ToolParam, ToolUseBlock
from pydantic import BaseModel

from tests.serving import Served

CAPITAL: list[MessageParam] = [{"role": "user", "content": "What is the capital of Spain?"}]
ANSWER = "The capital of Spain is Madrid."
THOUGHT = "The user asks for the capital of Spain. It is Madrid.\n"
GREEDY = {"temperature": 0}
ASKED: dict[str, Any] = {"model": "tinychat", "max_tokens": 64, "messages": CAPITAL, "extra_body": GREEDY}
WEATHER: ToolParam = {
    "name": "get_current_weather",
    "description": "Get the current weather for a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The name of the city"}},
        "required": ["city"],
    },
}
PARIS: MessageParam = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture
def client(server: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, auth_token="local", max_retries=0) as client:
        yield client


def blocks(message: Message) -> list[tuple[str, Any]]:
    """The kinds and contents of the message's blocks, which are as the client's types demand."""
    Message.model_validate(message.model_dump(), strict=True)
    found = []
    for block in message.content:
        if block.type == "thinking":
            assert block.signature
        found.append((block.type, getattr(block, {"tool_use": "input"}.get(block.type, block.type))))
    return found


def test_message(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**ASKED)
    assert blocks(answer) == [("thinking", THOUGHT), ("text", ANSWER)]
    assert (answer.model, answer.role, answer.stop_reason, answer.stop_sequence) == (
        *("tinychat", "assistant"),
        *("end_turn", None),
    )
    assert answer.usage.input_tokens == client.messages.count_tokens(model="tinychat", messages=CAPITAL).input_tokens
    assert answer.usage.output_tokens == 25
    assert answer._request_id
    assert answer._request_id.startswith("req_")


def test_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_message()
    assert blocks(answer) == [("thinking", THOUGHT), ("text", ANSWER)]
    assert answer.usage.output_tokens == 25
    assert kinds.count("thinking") >= 1
    assert kinds.count("text") >= 1
    assert kinds.count("signature") == 1
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def test_text_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == ANSWER


def test_no_thinking(client: anthropic.Anthropic) -> None:
    assert blocks(client.messages.create(**ASKED, thinking={"type": "disabled"})) == [("text", ANSWER)]


def test_reasoning_goes_back(client: anthropic.Anthropic) -> None:
    first = client.messages.create(**ASKED, thinking={"type": "enabled", "budget_tokens": 1024})
    more: list[MessageParam] = [
        *CAPITAL,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "What is the capital of Japan?"},
    ]
    assert "Tokyo" in blocks(client.messages.create(**ASKED | {"messages": more}))[-1][1]


def test_reasoning_ends_at_its_budget(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**ASKED, thinking={"type": "enabled", "budget_tokens": 3})
    assert blocks(answer) == [("thinking", "The user\n"), ("text", ANSWER)]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_round_trip(client: anthropic.Anthropic, streamed: bool) -> None:
    asked = ASKED | {"messages": [PARIS], "tools": [WEATHER]}
    if streamed:
        with client.messages.stream(**asked) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(**asked)
    call = answer.content[-1]
    assert isinstance(call, ToolUseBlock)
    assert (call.name, call.input, answer.stop_reason) == ("get_current_weather", {"city": "Paris"}, "tool_use")
    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature": 22, "sky": "sunny"}'}],
    }
    messages = [PARIS, {"role": "assistant", "content": answer.content}, result]
    last = client.messages.create(**asked | {"messages": messages})
    assert last.stop_reason == "end_turn"
    assert "22" in blocks(last)[-1][1]


def test_tool_runner(client: anthropic.Anthropic) -> None:
    cities = []

    @beta_tool
    def get_current_weather(city: str) -> str:
        """Get the current weather for a city

        Args:
            city: The name of the city
        """
        cities.append(city)
        return json.dumps({"temperature": 22, "sky": "sunny"})

    runner = client.beta.messages.tool_runner(
        model="tinychat", max_tokens=64, messages=[{**PARIS}], tools=[get_current_weather], extra_body=GREEDY
    )
    last = runner.until_done()
    assert cities == ["Paris"]
    assert last.stop_reason == "end_turn"
    assert last.content[-1].type == "text"


def test_a_tool_can_be_demanded_or_forbidden(client: anthropic.Anthropic) -> None:
    asked = ASKED | {"tools": [WEATHER]}
    forced = client.messages.create(**asked, tool_choice={"type": "tool", "name": "get_current_weather"})
    assert forced.stop_reason == "tool_use"
    free = client.messages.create(**asked | {"messages": [PARIS]}, tool_choice={"type": "none"})
    assert free.stop_reason != "tool_use"


def test_an_answer_to_a_schema_is_parsed(client: anthropic.Anthropic) -> None:
    class Capital(BaseModel):
        city: str

    answer = client.messages.parse(**ASKED, output_format=Capital)
    assert isinstance(answer.parsed_output, Capital)


def test_the_end_of_an_answer(client: anthropic.Anthropic) -> None:
    count: list[MessageParam] = [{"role": "user", "content": "Count to 30"}]
    cut = client.messages.create(**ASKED | {"messages": count, "max_tokens": 12}, thinking={"type": "disabled"})
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 12)
    stopped = client.messages.create(
        **ASKED | {"messages": count}, thinking={"type": "disabled"}, stop_sequences=["4, "]
    )
    assert blocks(stopped) == [("text", "1, 2, 3, ")]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "4, ")


def test_an_answer_of_nothing(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(**ASKED | {"max_tokens": 1})
    assert (answer.content, answer.stop_reason) == ([], "max_tokens")


def test_tokens_are_those_of_the_real_prompt(client: anthropic.Anthropic) -> None:
    prompt: dict[str, Any] = {
        "model": "tinychat",
        "messages": [PARIS],
        "system": [{"type": "text", "text": "Speak like a pirate.", "cache_control": {"type": "ephemeral"}}],
        "tools": [WEATHER],
        "thinking": {"type": "disabled"},
    }
    counted = client.messages.count_tokens(**prompt).input_tokens
    usages = [client.messages.create(**prompt, max_tokens=4).usage for _ in range(2)]
    for usage in usages:
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted
    assert usages[1].cache_read_input_tokens == counted - 1
    assert usages[1].cache_creation_input_tokens == 0


def test_a_billing_header_does_not_spoil_the_cache(client: anthropic.Anthropic) -> None:
    usages = []
    for number in range(2):
        header = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1; cch={number}0ab;"}
        prompt = {"type": "text", "text": "Speak like a pirate.", "cache_control": {"type": "ephemeral"}}
        usages.append(client.messages.create(**ASKED | {"extra_body": {}}, system=[header, prompt]).usage)
    assert usages[1].input_tokens == 1


def test_left_streams_leave_nothing_behind(client: anthropic.Anthropic) -> None:
    endless = ASKED | {"messages": [{"role": "user", "content": "Count to 60"}], "max_tokens": 500}
    for _ in range(20):
        with client.messages.stream(**endless) as stream:
            for event in stream:
                if event.type == "thinking":
                    break
    assert blocks(client.messages.create(**ASKED))[-1] == ("text", ANSWER)


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"model": "claude-haiku-4-5"}, anthropic.NotFoundError, "model 'claude-haiku-4-5' not found"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens is required and must be positive"),
        ({"messages": []}, anthropic.BadRequestError, "messages is required"),
        (
            {"messages": [{"role": "user", "content": "word " * 3000}], "extra_body": {"num_ctx": 256}},
            anthropic.BadRequestError,
            "prompt is too long: 3",  # thousand tokens
        ),
    ],
)
def test_errors_become_the_clients_classes(
    client: anthropic.Anthropic, fields: dict[str, Any], kind: type[anthropic.APIStatusError], message: str
) -> None:
    for stream in (False, True):
        with pytest.raises(kind) as caught:
            client.messages.create(**ASKED | fields, stream=stream)
        assert isinstance(caught.value.body, dict)
        assert caught.value.request_id == caught.value.body["request_id"]
        assert caught.value.body["error"]["message"].startswith(message)


def test_models(client: anthropic.Anthropic) -> None:
    client.messages.count_tokens(model="tinychat", messages=CAPITAL)  # now it is installed
    (model,) = client.models.list()
    ModelInfo.model_validate_json(model.model_dump_json(), strict=True)
    assert (model.id, model.type, model.lifecycle) == ("tinychat:latest", "model", "active")
    assert client.models.retrieve("tinychat").created_at == model.created_at
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-haiku-4-5")


def test_what_claude_code_sends(client: anthropic.Anthropic) -> None:
    """A turn and the request for a title beside it, with all the fields that come with them."""
    turn: dict[str, Any] = {
        "model": "tinychat",
        "max_tokens": 64,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0.abc; cc_entrypoint=cli; cch=0f3e1;"},
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>\n"},
                    {"type": "text", "text": CAPITAL[0]["content"], "cache_control": {"type": "ephemeral"}},
                ],
            }
        ],
        "tools": [WEATHER | {"eager_input_streaming": True}],
        "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }
    with client.beta.messages.stream(**turn, betas=["claude-code-20250219", "effort-2025-11-24"]) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason in ("end_turn", "tool_use", "max_tokens")
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    title = turn | {"tools": [], "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    written = client.beta.messages.create(**title | {"thinking": {"type": "disabled"}})
    assert list(json.loads(written.content[-1].text)) == ["title"]  # type: ignore[union-attr]
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        client.beta.messages.create(**title | {"model": "claude-haiku-4-5-20251001"})
