"""Requests of `/v1/messages` become the engine's."""

import base64
import json
from typing import Any

import pytest

from engine.api import ChatRequest, Message, NamedTool, ToolCall
from server.anthropic.conversation import caches, chat_request
from server.anthropic.schemas import MessagesBody
from server.http.body import decode
from server.http.errors import HTTPError

PIXEL = base64.b64encode(b"pixel").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def request(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 8, "messages": [user("Hi")], **fields}
    return chat_request(decode(json.dumps(body).encode(), MessagesBody))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def image() -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def call(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def test_options_are_those_of_the_request() -> None:
    made = request(
        temperature=0.5, top_p=1, top_k=3, stop_sequences=["x"], num_ctx=99, keep_alive="1m", options={"seed": 1}
    )
    assert made.options == {
        "seed": 1,
        "num_ctx": 99,
        "num_predict": 8,
        "temperature": 0.5,
        "top_p": 1,
        "top_k": 3,
        "stop": ["x"],
    }
    assert made.keep_alive == 60
    assert not made.truncate
    assert request(truncate=True).truncate


def test_penalties_are_off_unless_the_model_has_some() -> None:
    made = request()
    assert made.options == {"num_predict": 8}
    assert made.defaults == {"repeat_penalty": 1.0}


def test_blocks_of_a_message_stay_one_message() -> None:
    made = request(messages=[user([text("a"), image(), text("b")])])
    assert made.messages == [Message("user", "ab", images=(b"pixel",))]


def test_system_is_a_text_or_a_list() -> None:
    assert request(system="Be brief.").messages[0] == Message("system", "Be brief.")
    assert request(system=[text("Be "), text("brief.")]).messages[0] == Message("system", "Be brief.")
    assert request(system="").messages == [Message("user", "Hi")]
    assert request(system=[]).messages == [Message("user", "Hi")]


def test_a_billing_header_is_not_part_of_the_prompt() -> None:
    header = text("x-anthropic-billing-header: cc_version=2.1.0; cch=0a1b2;")
    assert request(system=[header, text("Be brief.")]).messages[0] == Message("system", "Be brief.")
    assert request(system=[header]).messages == [Message("user", "Hi")]
    inside = [{"role": "system", "content": [header, text("Be kind.")]}, user("Hi")]
    assert request(messages=inside).messages == [Message("system", "Be kind."), Message("user", "Hi")]


def test_results_come_before_the_text_of_their_message_and_know_their_tool() -> None:
    made = request(
        messages=[
            user("Weather?"),
            assistant(text("I look."), call("weather", "1", city="Rome"), call("clock", "2")),
            user(
                [text("Well?"), result("1", "sunny"), result("2", [text("no "), text("clock"), image()], is_error=True)]
            ),
        ]
    )
    assert made.messages[1:] == [
        Message(
            "assistant",
            "I look.",
            tool_calls=(ToolCall("weather", {"city": "Rome"}, "1"), ToolCall("clock", {}, "2", 1)),
        ),
        Message("tool", "sunny", tool_name="weather", tool_call_id="1"),
        Message("tool", "Error: no clock", images=(b"pixel",), tool_name="clock", tool_call_id="2"),
        Message("user", "Well?"),
    ]


def test_results_may_be_empty() -> None:
    empty = {"type": "tool_result", "tool_use_id": "1"}
    assert request(messages=[user([empty])]).messages == [Message("tool", "", tool_call_id="1")]


def test_a_result_that_says_error_itself_stays_as_it_is() -> None:
    made = request(messages=[user([result("1", "Error: no such file", is_error=True)])])
    assert made.messages[0].content == "Error: no such file"


def test_reasoning_is_given_back() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "anything"}
    hidden = {"type": "redacted_thinking", "data": "abc"}
    made = request(messages=[user("Hi"), assistant(hidden, thought, text("Hello")), user("More")])
    assert made.messages[1] == Message("assistant", "Hello", thinking="Hm.")


def test_searches_of_the_server_are_calls_with_results() -> None:
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    page = {"type": "web_search_result", "title": "T", "url": "http://x", "encrypted_content": "abc"}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page]}
    failed = found | {"content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
    for block, content in ((found, "T: http://x"), (failed, "Error: unavailable")):
        made = request(messages=[user("Hi"), assistant(searched, block, text("Done"))])
        assert made.messages[1:] == [
            Message("assistant", tool_calls=(ToolCall("web_search", {"query": "x"}, "s"),)),
            Message("tool", content, tool_name="web_search", tool_call_id="s"),
            Message("assistant", "Done"),
        ]


def test_documents_of_text_are_read() -> None:
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}}
    parts = {"type": "document", "source": {"type": "content", "content": [text("one "), text("two")]}}
    passage = {"type": "search_result", "title": "T", "source": "http://x", "content": [text("found")]}
    made = request(messages=[user([plain, parts, passage, text("Q")])])
    assert made.messages[0].content == "T\nbody\n\none two\n\nT\nhttp://x\nfound\n\nQ"


def test_unknown_blocks_are_ignored() -> None:
    strange = {"type": "strange", "source": 5, "text": []}
    assert request(messages=[user([strange, text("Hi")])]).messages == [Message("user", "Hi")]
    assert request(messages=[user("Hi"), assistant(strange)]).messages == [Message("user", "Hi")]


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, False),
        ({"output_config": {"effort": "xhigh"}}, "high"),
        ({"output_config": {"effort": "max"}}, "max"),
    ],
)
def test_thinking(fields: dict[str, Any], think: Any) -> None:
    assert request(**fields).think == think


def test_a_budget_for_reasoning() -> None:
    assert request(thinking={"type": "enabled", "budget_tokens": 2048}).thinking_budget == 2048
    assert request(thinking={"type": "adaptive"}).thinking_budget is None
    assert request().thinking_budget is None


@pytest.mark.parametrize(
    ("sent", "choice", "parallel"),
    [
        ({"type": "auto"}, "auto", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "tool", "name": "f"}, NamedTool("f"), True),
        ({"type": "none"}, "none", True),
    ],
)
def test_tool_choice(sent: dict[str, Any], choice: Any, parallel: bool) -> None:
    made = request(tool_choice=sent)
    assert (made.tool_choice, made.parallel_tool_calls) == (choice, parallel)


def test_tools() -> None:
    (tool,) = request(tools=[{"name": "f", "description": "d", "input_schema": SCHEMA, "type": "custom"}]).tools
    assert (tool.name, tool.description, tool.sent, tool.required) == ("f", "d", SCHEMA, ("city",))
    (bare,) = request(tools=[{"name": "f", "input_schema": {}}]).tools
    assert bare.sent == {}


@pytest.mark.parametrize(
    ("kind", "name", "argument"),
    [
        ("bash_20250124", "bash", "command"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "old_str"),
        ("memory_20250818", "memory", "path"),
        ("computer_20251124", "computer", "coordinate"),
        ("web_search_20250305", "web_search", "query"),
    ],
)
def test_tools_that_anthropic_defines(kind: str, name: str, argument: str) -> None:
    (tool,) = request(tools=[{"type": kind, "name": name}]).tools
    assert tool.name == name
    assert tool.properties
    assert argument in tool.properties
    assert tool.description


def test_a_search_for_tools_is_not_needed() -> None:
    sent = [{"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}]
    assert request(tools=[*sent, {"name": "f", "input_schema": {}, "defer_loading": True}]).tools[0].name == "f"


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_for_the_answer(where: str) -> None:
    sent = {"type": "json_schema", "schema": SCHEMA}
    made = request(**({"output_config": {"format": sent}} if where == "output_config" else {"output_format": sent}))
    assert made.format is not None
    assert json.loads(made.format) == SCHEMA


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"system": [text("x") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"messages": [user([text("x") | {"cache_control": {"type": "ephemeral"}}])]},
        {"messages": [user([result("1", [text("x") | {"cache_control": {"type": "ephemeral"}}])])]},
        {"tools": [{"name": "f", "input_schema": {}, "cache_control": {"type": "ephemeral"}}]},
    ],
)
def test_cache_control_is_seen_everywhere(fields: dict[str, Any]) -> None:
    def body(**more: Any) -> MessagesBody:
        return decode(json.dumps({"messages": [user("Hi")], **more}).encode(), MessagesBody)

    assert caches(body(**fields))
    assert not caches(body())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "user"}]}, "unexpected end of JSON input: messages[0].content is missing"),
    ({"messages": [{"content": "x"}]}, 'invalid role: "" (must be "user", "assistant" or "system")'),
    ({"messages": [user([{"text": "x"}])]}, "content block missing required 'type' field"),
    ({"messages": [user(5)]}, "json: cannot unmarshal number into Go struct field MessagesRequest.messages.content"),
    ({"messages": [user([5])]}, "json: cannot unmarshal number into Go struct field MessagesRequest.messages.content"),
    ({"messages": [user([{"type": "image"}])]}, "invalid image source"),
    (
        {"messages": [user([{"type": "image", "source": {"type": "url", "url": "http://x"}}])]},
        "invalid image source type: url. Only base64 images are supported.",
    ),
    (
        {"messages": [user([{"type": "image", "source": {"type": "base64", "data": "#"}}])]},
        "invalid base64 image data: illegal base64 data at input byte 0",
    ),
    (
        {"messages": [user([{"type": "document", "source": {"type": "base64", "data": "JVBE"}}])]},
        "invalid document source type: base64. Only text and content documents are supported.",
    ),
    ({"messages": [assistant({"type": "tool_use", "name": "f"})]}, "tool_use block missing required 'id' field"),
    ({"messages": [assistant({"type": "tool_use", "id": "1"})]}, "tool_use block missing required 'name' field"),
    (
        {"messages": [assistant({"type": "tool_use", "id": "1", "name": "f", "input": "x"})]},
        "tool_use block's 'input' must be an object",
    ),
    ({"messages": [user([{"type": "text"}])]}, "text block missing required 'text' field"),
    ({"tools": [{"input_schema": {}}]}, "tool missing required 'name' field"),
    ({"tools": [{"name": "x"}]}, "tool missing required 'input_schema' field"),
    ({"tools": [{"name": "x", "type": "custom"}]}, "tool missing required 'input_schema' field"),
    ({"tools": [{"name": "x", "input_schema": {}}] * 2}, 'tools: "x" is there twice'),
    ({"tools": [{"name": "x", "input_schema": {"type": 5}}]}, 'invalid input_schema for tool "x": json: cannot unm'),
    ({"tools": [{"type": "code_execution_20250825", "name": "c"}]}, 'tool type "code_execution_20250825" is not supp'),
    ({"tool_choice": {"type": "some"}}, 'invalid tool_choice.type: "some" (must be "auto", "any", "tool" or "none")'),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name is required"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens must be positive"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens is required"),
    ({"thinking": {"type": "on"}}, 'invalid thinking.type: "on" (must be "enabled", "disabled" or "adaptive")'),
    ({"thinking": {}}, 'invalid thinking.type: ""'),
    ({"output_config": {"effort": "huge"}}, 'invalid output_config.effort: "huge"'),
    ({"output_format": {"type": "xml"}}, 'invalid output format type: "xml" (must be "json_schema")'),
    ({"output_format": {"type": "json_schema"}}, "output format missing required 'schema' field"),
    ({"temperature": "hot"}, "json: cannot unmarshal string into Go struct field MessagesRequest.temperature of type"),
    ({"stop_sequences": "x"}, "json: cannot unmarshal string into Go struct field MessagesRequest.stop_sequences"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_what_is_wrong_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, HTTPError)) as caught:
        request(**fields)
    assert str(caught.value).startswith(message)
