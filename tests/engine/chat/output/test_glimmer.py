"""Muse Glimmer: who a message is for."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Message
from engine.chat.output import MalformedCall, ParseContext
from engine.chat.output.glimmer import read_glimmer
from tests.engine.chat.reading import parsed

CALL = (
    '<atem:function_calls>\n<atem:invoke name="{}">\n<atem:parameter name="days">3</atem:parameter>\n'
    "</atem:invoke>\n</atem:function_calls>"
)
WEATHER = ("get_weather", {"days": 3})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        (" to=final<|message|>A<|eot|>", "A", "", []),
        (" to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>A<|eot|>", "A", "hm", []),
        (f" to=get_weather<|message|>{CALL.format('get_weather')}<|eom|>", "", "", [WEATHER]),
        (f" to=get_weather.get_weather<|message|>{CALL.format('get_weather.get_weather')}", "", "", [WEATHER]),
        (f" to=user<|message|>{CALL.format('get_weather')}<|eot|>", "", "", [WEATHER]),
        (" to=self<|message|>hm<|start|>assistant to=user<|message|>A", "A", "hm", []),
        (f" to=get_weather<|message|>{CALL[:40]}", CALL[:40], "", []),
        ("plain", "plain", "", []),
    ],
)
def test_answers(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert parsed(read_glimmer, text) == (content, thinking, calls)


def test_reasoning_that_nobody_wants() -> None:
    assert parsed(read_glimmer, " to=self<|message|>hm<|eom|>", ParseContext(think=False)) == ("", "", [])


def test_a_message_to_a_tool_that_is_no_call() -> None:
    with pytest.raises(MalformedCall, match="parse Glimmer call to get_weather"):
        parsed(read_glimmer, " to=get_weather<|message|>hello<|eom|>")


def test_a_text_that_is_continued() -> None:
    last = Message("assistant", "We")
    inside = ParseContext(last=last, prompt="<|start|>user<|message|>Hi<|eot|><|start|>assistant to=user<|message|>We")
    assert parsed(read_glimmer, "ll<|eot|>", inside) == ("ll", "", [])
    behind = ParseContext(last=last, prompt="<|start|>assistant to=user<|message|>We<|eot|><|start|>assistant")
    assert parsed(read_glimmer, " to=user<|message|>ll", behind) == ("ll", "", [])
