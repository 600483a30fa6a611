"""Messages in the dialects of templates."""

from __future__ import annotations

from engine.api import Message, ToolCall
from engine.chat.jinja.adapt import MessageDialect

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


def test_parts() -> None:
    assert MessageDialect(parts=True).write([Message("user", "Hi")]) == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    ]


def test_no_content_beside_calls() -> None:
    said = MessageDialect(null_content=True).write(
        [ASKED, Message("assistant", "x", tool_calls=(CALL,)), Message("user")]
    )
    assert [message["content"] for message in said] == [None, "x", ""]


def test_arguments_as_text() -> None:
    (said,) = MessageDialect(text_arguments=True).write([ASKED])
    assert said["tool_calls"][0]["function"]["arguments"] == '{"b": 1, "a": "é"}'


def test_short_ids() -> None:
    call, result = MessageDialect(short_ids=True).write([ASKED, RESULT])
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == 9


def test_what_a_template_changes_is_its_own() -> None:
    (said,) = MessageDialect().write([ASKED])
    said["tool_calls"][0]["function"]["arguments"].clear()
    assert CALL.arguments == {"b": 1, "a": "é"}
