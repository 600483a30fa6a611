"""Cohere's blocks."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Message
from engine.chat.output import ParseContext
from engine.chat.output.cohere import read_cohere, read_command
from tests.engine.chat.reading import parsed

ACTION = '{"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1}}'
CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        ("hm \n<|END_THINKING|>\n<|START_TEXT|> Yes. <|END_TEXT|>", " Yes. ", "hm", []),
        ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Yes<|END_RESPONSE|>", "Yes", "hm", []),
        (f"hm<|END_THINKING|><|START_ACTION|>[\n{ACTION},\n{ACTION}]<|END_ACTION|>", "", "hm", [CALL, CALL]),
        ("hm<|END_THINKING|> bare <|END_OF_TURN_TOKEN|>", "bare ", "hm", []),
        (f"hm<|END_THINKING|>text<|START_ACTION|>[{ACTION}", "text", "hm", [CALL]),
        ("hm<|END_THINKING|><|START_ACTION|>x<|END_ACTION|>", "<|START_ACTION|>x<|END_ACTION|>", "hm", []),
        ("never closed", "", "never closed", []),
    ],
)
def test_answers(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert parsed(read_cohere, text) == (content, thinking, calls)
    assert parsed(read_command, text, ParseContext(prompt="<|START_THINKING|>")) == (content, thinking, calls)


def test_where_an_answer_begins() -> None:
    text = "<|START_TEXT|>Yes<|END_TEXT|>"
    assert parsed(read_cohere, text, ParseContext(think=False)) == ("Yes", "", [])
    assert parsed(read_command, text, ParseContext(prompt="<|END_THINKING|>")) == ("Yes", "", [])
    assert parsed(read_cohere, " and no<|END_TEXT|>", ParseContext(last=Message("assistant", "Yes"))) == (
        " and no",
        "",
        [],
    )
    assert parsed(read_command, " and no<|END_TEXT|>", ParseContext(prompt="<|START_TEXT|>")) == (" and no", "", [])
