"""Calls and their results, however little a client says about which belongs to which."""

from dataclasses import replace

from engine.api import Message, ToolCall
from engine.chat.jinja.adapt import linked_calls, named_ids, one_call_each, short_ids

ASKED = Message("assistant", tool_calls=(ToolCall("f", {}), ToolCall("g", {}, id="own")))


def results(*messages: Message) -> list[tuple[str, str, str]]:
    linked = linked_calls([Message("user", "Hi"), ASKED, *messages])
    return [(message.content, message.tool_name, message.tool_call_id) for message in linked[2:]]


def test_calls_get_ids() -> None:
    (linked,) = linked_calls([ASKED])
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
    assert linked_calls([Message("tool", "x")]) == [Message("tool", "x")]


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


def test_one_call_each() -> None:
    first, second = Message("tool", "1", tool_call_id="own"), Message("tool", "2")
    stray = Message("tool", "x", tool_call_id="unknown")
    asked = linked_calls([replace(ASKED, content="c"), first, second, stray, Message("user", "U")])
    assert [(m.role, m.content, [call.name for call in m.tool_calls]) for m in one_call_each(asked)] == [
        ("assistant", "c", ["f"]),
        ("tool", "2", []),
        ("assistant", "", ["g"]),
        ("tool", "1", []),
        ("tool", "x", []),
        ("user", "U", []),
    ]


def test_one_call_is_one_already() -> None:
    messages = [Message("assistant", tool_calls=(ToolCall("f", {}),)), Message("tool", "1"), Message("user", "U")]
    assert one_call_each(messages) == messages


def test_ids_that_tell_the_function() -> None:
    stray = Message("tool", "x", tool_call_id="unknown")
    first, second, *rest = named_ids(linked_calls([ASKED, Message("tool", "2", tool_name="g"), stray, ASKED]))
    assert [call.id for call in first.tool_calls] == ["functions.f:0", "functions.g:3"]
    assert second.tool_call_id == "functions.g:3"
    assert rest[0] == stray
