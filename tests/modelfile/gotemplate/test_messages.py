"""Messages of one role that become one."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelfile.conversation import Message, ToolCall
from modelfile.gotemplate.messages import collate, system_text

messages = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.text("ab", max_size=2)))


def test_neighbours_are_merged() -> None:
    call = ToolCall("f")
    merged = collate(
        [
            Message("user", "a", images=(b"1",)),
            Message("user", "b", images=(b"2",)),
            Message("assistant", "x", thinking="hm"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "1"),
            Message("tool", "2"),
        ]
    )
    assert merged == [
        Message("user", "a\n\nb", images=(b"1",)),
        Message("assistant", "x\n\n", thinking="hm", tool_calls=(call,)),
        Message("tool", "1"),
        Message("tool", "2"),
    ]


@given(messages)
def test_no_text_is_lost(given: list[Message]) -> None:
    merged = collate(given)
    assert "\n\n".join(message.content for message in merged) == "\n\n".join(message.content for message in given)
    assert all(a.role != b.role or a.role == "tool" for a, b in pairwise(merged))


def test_system_text() -> None:
    assert system_text([Message("system", "a"), Message("user", "b"), Message("system", "c")]) == "a\n\nc"
