"""Gemma's calls and channels."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import ParseContext
from engine.chat.output.gemma import read_function_gemma, read_gemma4, read_gemma4_silent
from tests.engine.chat.reading import parsed

PARIS = '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:2}<tool_call|>'
CALL = ("get_weather", {"city": "Paris", "days": 2})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        ("<|channel>thought\nhm\n<channel|>\nHi", "Hi", "hm", []),
        ("Hi <|channel>thought\nhm<channel|> there", "Hi there", "hm", []),
        ("<|channel>hm", "", "hm", []),
        (PARIS, "", "", [CALL]),
        (f"Hi {PARIS}{PARIS} so", "Hi so", "", [CALL, CALL]),
        (f"{PARIS}<tool_call|>\n<|tool_response>so", "so", "", [CALL]),
        (PARIS.removesuffix("<tool_call|>"), "", "", [CALL]),
        (f"{PARIS.removesuffix('<tool_call|>')}{PARIS}", "", "", [CALL, CALL]),
    ],
)
def test_gemma4(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert parsed(read_gemma4, text) == (content, thinking, calls)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ('a:[1,<|"|>x<|"|>,{b:true}],c:null', {"a": [1, "x", {"b": True}], "c": None}),
        ('<|"|>a b<|"|>:1', {"a b": 1}),
        ('"a":"x\\n"', {"a": "x\n"}),
        ('a:<|"|>say "}" and <tool_call|><|"|>', {"a": 'say "}" and <tool_call|>'}),
        ("city:San Francisco, CA,days:2", {"city": "San Francisco, CA", "days": 2}),
        ("city:'Paris'", {"city": "Paris"}),
    ],
)
def test_arguments(arguments: str, expected: dict[str, Any]) -> None:
    assert parsed(read_gemma4, f"<|tool_call>call:f{{{arguments}}}<tool_call|>") == ("", "", [("f", expected)])


@pytest.mark.parametrize("call", ['call:f{a:<|"|>x}', 'call:f{a:<|"|>x<|"|>', 'call:f{a:<|"|>x'])
def test_a_call_that_was_not_closed_properly_is_repaired(call: str) -> None:
    assert parsed(read_gemma4, f"<|tool_call>{call}<tool_call|> so") == ("so", "", [("f", {"a": "x"})])


@pytest.mark.parametrize("call", ["call:f{a:", "call:f", 'call:f{a:<|"|>x', "f{}"])
def test_what_is_no_call_is_content(call: str) -> None:
    assert parsed(read_gemma4, f"<|tool_call>{call}") == (f"<|tool_call>{call}", "", [])


def test_reasoning_that_nobody_wants() -> None:
    text = "<|channel>thought\nhm<channel|>Hi"
    assert parsed(read_gemma4, text, ParseContext(think=False)) == ("Hi", "", [])
    assert parsed(read_gemma4_silent, text) == ("Hi", "", [])


def test_reasoning_that_the_prompt_has_opened() -> None:
    assert parsed(read_gemma4, "hm<channel|>Hi", ParseContext(prompt="…<|channel>thought\n")) == ("Hi", "hm", [])


def test_function_gemma() -> None:
    text = "ok <start_function_call>call:get_weather{city:<escape>a, {b}<escape>,days:2}<end_function_call> so"
    assert parsed(read_function_gemma, text) == ("ok  so", "", [("get_weather", {"city": "a, {b}", "days": 2})])
    assert parsed(read_function_gemma, "<start_function_call>call:f{") == ("<start_function_call>call:f{", "", [])
