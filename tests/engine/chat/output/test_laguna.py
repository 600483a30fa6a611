"""Laguna's reasoning, which may come back."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Message
from engine.chat.output import ParseContext, ToolSet
from engine.chat.output.laguna import read_laguna, read_poolside
from tests.engine.chat.reading import TOOLS, said

ADD = "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"
CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        ("\nhm\n</think>\n\nA", "A", "hm", []),
        ("<think>hm</think>A", "A", "hm", []),
        (f"hm {ADD} A", "A", "hm", [CALL]),
        (f"hm</think>A <think>ha</think> B{ADD}", "AB", "hmha", [CALL]),
        ('hm</think><tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "", "hm", [CALL]),
    ],
)
def test_answers(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert said(read_laguna, text) == (content, thinking, calls)
    assert said(read_poolside, text) == (content, thinking, calls)


def test_reasoning_that_nobody_wants() -> None:
    turn = ParseContext(ToolSet(TOOLS), think=False)
    assert said(read_laguna, f"</think>\nA <think>ha</think>B{ADD}", turn) == ("AB", "", [CALL])


def test_an_answer_that_goes_on_with_a_message() -> None:
    turn = ParseContext(last=Message("assistant", "A"))
    assert said(read_laguna, "B", turn) == ("B", "", [])
    assert said(read_poolside, "hm</think>B", turn) == ("B", "hm", [])
