"""Messages adapted to what templates can show: linked calls, dialects, system messages, calls as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.api import Message, ToolCall
from engine.chat.jinja.adapt import (
    MessageDialect,
    function_ids,
    inline_calls,
    link_tool_results,
    merge_system_messages,
    short_ids,
    split_parallel_calls,
    system_as_user,
)
from engine.chat.output import Format, ParseContext, ToolSet, native_format
from engine.chat.output.format import Values
from tests.engine.chat.output.test_detect import EXCERPTS
from tests.engine.chat.reading import parsed, tool

CALL = ToolCall("f", {"b": 1, "a": "é"}, id="call_1_0")
ASKED = Message("assistant", tool_calls=(CALL,), thinking="unseen")
RESULT = Message("tool", "22", tool_name="f", tool_call_id="call_1_0")


def test_as_openai_has_it() -> None:
    assert MessageDialect().write([Message("user", "Hi"), ASKED, RESULT]) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "id": "call_1_0", "function": {"name": "f", "arguments": {"b": 1, "a": "é"}}}
            ],
        },
        {"role": "tool", "content": "22", "name": "f", "tool_call_id": "call_1_0"},
    ]


def test_typed_content() -> None:
    assert MessageDialect(typed_content=True).write([Message("user", "Hi")]) == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    ]


def test_no_content_beside_calls() -> None:
    written = MessageDialect(null_content=True).write(
        [ASKED, Message("assistant", "x", tool_calls=(CALL,)), Message("user")]
    )
    assert [message["content"] for message in written] == [None, "x", ""]


def test_arguments_as_json() -> None:
    (written,) = MessageDialect(json_arguments=True).write([ASKED])
    assert written["tool_calls"][0]["function"]["arguments"] == '{"b": 1, "a": "é"}'


def test_short_ids() -> None:
    call, result = MessageDialect(short_ids=True).write([ASKED, RESULT])
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == 9


def test_what_a_template_changes_is_its_own() -> None:
    (written,) = MessageDialect().write([ASKED])
    written["tool_calls"][0]["function"]["arguments"].clear()
    assert CALL.arguments == {"b": 1, "a": "é"}


CALLING = Message("assistant", tool_calls=(ToolCall("f", {}), ToolCall("g", {}, id="own")))


def results(*messages: Message) -> list[tuple[str, str, str]]:
    linked = link_tool_results([Message("user", "Hi"), CALLING, *messages])
    return [(message.content, message.tool_name, message.tool_call_id) for message in linked[2:]]


def test_calls_get_ids() -> None:
    (linked,) = link_tool_results([CALLING])
    assert [call.id for call in linked.tool_calls] == ["call_0_0", "own"]


def test_results_without_anything_follow_the_order_of_the_calls() -> None:
    assert results(Message("tool", "1"), Message("tool", "2")) == [("1", "f", "call_1_0"), ("2", "g", "own")]


def test_results_by_name_or_by_id() -> None:
    by_name = Message("tool", "2", tool_name="g")
    by_id = Message("tool", "2", tool_call_id="own")
    for result in (by_name, by_id):
        assert results(result, Message("tool", "1")) == [("2", "g", "own"), ("1", "f", "call_1_0")]


def test_what_belongs_to_no_call_stays_as_it_is() -> None:
    assert results(Message("tool", "x", tool_call_id="unknown")) == [("x", "", "unknown")]
    assert link_tool_results([Message("tool", "x")]) == [Message("tool", "x")]


def test_short_ids_are_short_and_still_belong_together() -> None:
    call, result = short_ids(
        [
            Message("assistant", tool_calls=(ToolCall("f", {}, id="call_abcdefgh"),)),
            Message("tool", tool_call_id="call_abcdefgh"),
        ]
    )
    assert call.tool_calls[0].id == result.tool_call_id
    assert len(result.tool_call_id) == 9
    assert result.tool_call_id.isalnum()


def test_an_id_that_is_short_already_stays() -> None:
    (message,) = short_ids([Message("tool", tool_call_id="abcDEF123")])
    assert message.tool_call_id == "abcDEF123"


def test_split_parallel_calls() -> None:
    first, second = Message("tool", "1", tool_call_id="own"), Message("tool", "2")
    stray = Message("tool", "x", tool_call_id="unknown")
    asked = link_tool_results([replace(CALLING, content="c"), first, second, stray, Message("user", "U")])
    assert [(m.role, m.content, [call.name for call in m.tool_calls]) for m in split_parallel_calls(asked)] == [
        ("assistant", "c", ["f"]),
        ("tool", "2", []),
        ("assistant", "", ["g"]),
        ("tool", "1", []),
        ("tool", "x", []),
        ("user", "U", []),
    ]


def test_one_call_is_one_already() -> None:
    messages = [Message("assistant", tool_calls=(ToolCall("f", {}),)), Message("tool", "1"), Message("user", "U")]
    assert split_parallel_calls(messages) == messages


def test_ids_that_tell_the_function() -> None:
    stray = Message("tool", "x", tool_call_id="unknown")
    first, second, *rest = function_ids(
        link_tool_results([CALLING, Message("tool", "2", tool_name="g"), stray, CALLING])
    )
    assert [call.id for call in first.tool_calls] == ["functions.f:0", "functions.g:3"]
    assert second.tool_call_id == "functions.g:3"
    assert rest[0] == stray


S, T, U, A = Message("system", "S"), Message("system", "T"), Message("user", "U"), Message("assistant", "A")


def roles(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def test_system_as_user() -> None:
    assert roles(system_as_user([S, T, U, A])) == [("user", "S\nT\nU"), ("assistant", "A")]
    assert roles(system_as_user([U, A, S])) == [("user", "U"), ("assistant", "A"), ("user", "S")]


def test_merge_system_messages() -> None:
    assert roles(merge_system_messages([S, T, U, A, S, U])) == [
        ("system", "S\n\nT"),
        ("user", "U"),
        ("assistant", "A"),
        ("user", "S\nU"),
    ]
    assert roles(merge_system_messages([U, A, S, U])) == [("user", "U"), ("assistant", "A"), ("user", "S\nU")]


FORMATS: dict[str, Format] = {template: native_format(template) for template, _ in EXCERPTS}
TOOLS = [tool("add", a="number", b="number"), tool("say", text="string", tags="array", loud="boolean"), tool("now")]
CALLS = (
    ToolCall("add", {"a": 1, "b": 2.5}),
    ToolCall("say", {"text": 'Tea, "please"!', "tags": ["a", "b"], "loud": True}),
    ToolCall("now", {}),
)
CONTEXT = ParseContext(ToolSet(TOOLS), think=False)


def writes(answer_format: Format) -> bool:
    calls = answer_format.spec.calls
    return calls is not None and (calls.arguments is None or calls.arguments.values is not Values.QUOTED)


@pytest.mark.parametrize("name", [name for name, answer_format in FORMATS.items() if writes(answer_format)])
def test_inline_calls_can_be_read(name: str) -> None:
    spec = FORMATS[name].spec.calls
    assert spec is not None
    for call in CALLS:
        assert parsed(FORMATS[name], inline_calls([call], spec), CONTEXT)[2] == [(call.name, call.arguments)]
    if spec.separator is not None:
        assert parsed(FORMATS[name], inline_calls(CALLS, spec), CONTEXT)[2] == [
            (call.name, call.arguments) for call in CALLS
        ]
