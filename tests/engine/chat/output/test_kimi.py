"""Kimi K3, whose whole answer is tagged."""

from __future__ import annotations

from engine.chat.output import ParseContext, ToolSet
from engine.chat.output.kimi import THINK, read_kimi3
from tests.engine.chat.reading import TOOLS, said

CALL = (
    '<|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
    '<|open|>argument key="tags" type="array"<|sep|>["a"]<|close|>argument<|sep|>'
    "<|close|>call<|sep|>"
)
ARGUMENTS = {"city": "Paris", "tags": ["a"]}
TURN = ParseContext(ToolSet(TOOLS), prompt=f"…{THINK}")


def test_thinking_text_and_calls() -> None:
    text = (
        "hm<|close|>think<|sep|><|open|>response<|sep|>Yes.<|close|>response<|sep|>"
        f"<|open|>tools<|sep|>{CALL}{CALL}<|close|>tools<|sep|><|close|>message<|sep|>"
    )
    assert said(read_kimi3, text, TURN) == ("Yes.", "hm", [("get_weather", ARGUMENTS)] * 2)


def test_an_answer_without_thinking() -> None:
    text = "<|open|>response<|sep|>Yes.<|close|>response<|sep|><|close|>message<|sep|>"
    assert said(read_kimi3, text) == ("Yes.", "", [])
    assert said(read_kimi3, text.removeprefix("<|open|>response<|sep|>")) == ("Yes.", "", [])
