"""gpt-oss: channels, recipients and names."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Message
from engine.chat.output import MalformedCall, ParseContext, ToolSet
from engine.chat.output.harmony import identifiers, read_harmony
from tests.engine.chat.reading import parsed, tool

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
ARGUMENTS = '<|constrain|>json<|message|>{"city": "P"}'
CALL = ("get_weather", {"city": "P"})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        (f"{ANALYSIS}Think<|end|><|start|>assistant{FINAL}Ans", "Ans", "Think", []),
        (f"{ANALYSIS}Think<|start|>assistant{FINAL}Ans<|return|>", "Ans", "Think", []),
        (f"{FINAL} a <|end|><|start|>assistant{FINAL} b", " a  b", "", []),
        ("<|channel|>commentary<|message|>Let me see.", "Let me see.", "", []),
        ("<|message|>Hi", "Hi", "", []),
        (f"<|channel|>commentary to=functions.get_weather {ARGUMENTS}", "", "", [CALL]),
        (f" to=functions.get_weather<|channel|>commentary {ARGUMENTS}<|call|>", "", "", [CALL]),
        (f"<|channel|>analysis to=get_weather code{ARGUMENTS[14:]}", "", "", [CALL]),
        (f"{ANALYSIS}hm<|end|><|start|>assistant to=functions.get_weather {ARGUMENTS}<|end|>", "", "hm", [CALL]),
        ("<|channel|>commentary to=functions.now<|message|>{}", "", "", [("now", {})]),
        ('<|channel|>commentary to=functions.f<|message|>{"a": ', '{"a": ', "", []),
        ("no header at all", "no header at all", "", []),
        (f"{FINAL}a<|end|><|start|>assist", "a", "", []),
    ],
)
def test_answers(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert parsed(read_harmony, text) == (content, thinking, calls)


def test_a_call_that_is_no_json() -> None:
    with pytest.raises(MalformedCall) as caught:
        parsed(read_harmony, "<|channel|>commentary to=functions.f<|message|>{bad")
    fault = "invalid character 'b' looking for beginning of object key string"
    assert str(caught.value) == f"error parsing tool call: raw='{{bad', err={fault}"


def test_an_answer_that_goes_on_with_a_message() -> None:
    assert parsed(read_harmony, "more", ParseContext(last=Message("assistant", "some"))) == ("more", "", [])
    text = f"more<|end|><|start|>assistant{FINAL}Ans"
    assert parsed(read_harmony, text, ParseContext(last=Message("assistant", thinking="some"))) == ("Ans", "more", [])


def test_names_are_mapped_back() -> None:
    context = ParseContext(ToolSet([tool("get-weather.v2")]))
    text = "<|channel|>commentary to=functions.get_weather_v2<|message|>{}"
    assert parsed(read_harmony, text, context) == ("", "", [("get-weather.v2", {})])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["get weather", "get-weather", "get.weather"], ["get_weather", "get_weather_2", "get_weather_3"]),
        (["a!b", "1st", "", "héé", "$x"], ["ab", "_1st", "unnamed", "héé", "$x"]),
        (["browser.open", "python"], ["browser.open", "python"]),
        (["a_2", "a", "a-2"], ["a_2", "a", "a_2_2"]),
    ],
)
def test_identifiers(names: list[str], expected: list[str]) -> None:
    assert list(identifiers(names).values()) == expected
