"""Calls behind a tag, objects read as they come."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import OutputParser, ParseContext, ToolSet, template_format
from engine.chat.output.tagged_json import spellings
from modelfile.conversation import Tool
from tests.engine.chat.reading import TOOLS, TURN, said, steps

PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
CALL = ("get_weather", {"city": "Paris"})
DEEPSEEK = "<|tool▁calls▁begin|><|tool▁call▁begin|>function<|tool▁sep|>"


@pytest.mark.parametrize(
    ("tag", "text", "content", "calls"),
    [
        ("<tool_call>", "Hello <tool_ done", "Hello <tool_ done", []),
        ("<tool_call>", f"Let me check. <tool_call>{PARIS}</tool_call> bye", "Let me check. ", [CALL]),
        ("<tool_call>", f"<tool_call>{PARIS}</tool_call>\n<tool_call>{PARIS}</tool_call>", "", [CALL, CALL]),
        ("<tool_call>", '<tool_call>{"arguments": {"a": "5"}, "name": "add"}', "", [("add", {"a": "5"})]),
        ("<tool_call>", '<tool_call>{"name": "now"}</tool_call>', "", [("now", {})]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>{"add": {"a": 1}}</tool_call>', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>add({"a": 1})</tool_call>', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>add({"name": "x"})</tool_call>', "", [("add", {"name": "x"})]),
        ("<tool_call>", '<tool_call>{"type":"function","function":' + PARIS + "}", "", [CALL]),
        ("<tool_call>", '<tool_call>{"tool_calls": [' + f"{PARIS}, {PARIS}]}}", "", [CALL, CALL]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": {"a": 1,}}\n<tool_call>' + PARIS, "", [CALL]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": {"a": 1}\n<tool_call>' + PARIS, "", [CALL]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS][{PARIS}, {PARIS}][/TOOL_CALLS]", "", [CALL, CALL]),
        ("Action: ```json\n[", f"Action: ```json [{PARIS}]\n```", "", [CALL]),
        ("functools[", f"functools[{PARIS}]", "", [CALL]),
        (DEEPSEEK, f'{DEEPSEEK}get_weather\n```json\n{{"city": "Paris"}}\n```', "", [CALL]),
        ("{", PARIS, "", [CALL]),
        ("{", f"{PARIS}; {PARIS}", "", [CALL, CALL]),
        ("{", f"[{PARIS}, {PARIS}]", "", [CALL, CALL]),
        ("{", f"\n {PARIS} and text", "\n ", [CALL]),
        ("[", f"[\n{PARIS},\n{PARIS}\n]", "", [CALL, CALL]),
        ("[", f"[{PARIS}, {PARIS[:20]}", PARIS[:20], [CALL]),
    ],
)
def test_calls(tag: str, text: str, content: str, calls: list[Any]) -> None:
    assert said(template_format(tag), text) == (content, "", calls)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("<tool_call>", 'a <tool_call>{"name": "nope", "arguments": {"x": "add"}}</tool_call> b'),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": {"a": 1,}}</tool_call>'),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": [1, 2]}</tool_call>'),
        ("<tool_call>", '<tool_call>{"name": "add", "argum'),
        ("<tool_call>", "<tool_call>never mind"),
        ("{", '{"a": 1} tail'),
        ("{", '{"name": "nope", "arguments": {}}' + PARIS),
        ("{", '{"name": "add", "argum'),
        ("{", f"Sure: {PARIS}"),
        ("{", "for { x }"),
        ("{", "[special delivery]"),
        ("[", "[{1}, {2}]"),
    ],
)
def test_what_is_no_call_is_content(tag: str, text: str) -> None:
    assert said(template_format(tag), text) == (text, "", [])


def test_what_was_no_call_does_not_end_the_calls() -> None:
    text = '<tool_call>{"name": "nope"}</tool_call> <tool_call>' + PARIS
    assert said(template_format("<tool_call>"), text) == ('<tool_call>{"name": "nope"}</tool_call> ', "", [CALL])
    text = f'<tool_call>{PARIS}</tool_call> <tool_call>{{"name": "nope"}}'
    assert said(template_format("<tool_call>"), text) == ('<tool_call>{"name": "nope"}', "", [CALL])


def test_a_call_is_emitted_at_its_last_brace() -> None:
    chunks = ["[", '{"name": "now", ', '"arguments": {}', "}", ', {"name": "now"', "}", "]"]
    parser = OutputParser(template_format("["), TURN)
    assert [len(delta.tool_calls) for delta in steps(parser, chunks)] == [0, 0, 0, 1, 0, 1, 0, 0]


def test_without_tools_everything_is_content() -> None:
    for tag in ("{", "<tool_call>"):
        assert said(template_format(tag), f"<tool_call>{PARIS}", ParseContext()) == (f"<tool_call>{PARIS}", "", [])


def test_names_of_tools_that_are_parts_of_one_another() -> None:
    tools = ToolSet(map(Tool, ("say", "say_hello", "say-hello-world")))
    for name in tools.names:
        assert said(template_format("<call>"), f"<call>{name}({{}})", ParseContext(tools)) == ("", "", [(name, {})])


def test_thinking_comes_before_calls_and_only_when_asked_for() -> None:
    format = template_format("<tool_call>", ("<think>", "</think>"))
    text = f"<think>\nhm\n</think>\n\n<tool_call>{PARIS}</tool_call>"
    assert said(format, text) == ("", "hm\n", [CALL])
    assert said(format, text, ParseContext(ToolSet(TOOLS), think=False)) == ("<think>\nhm\n</think>\n\n", "", [CALL])
    assert said(format, "hm</think>x", ParseContext(prompt="user: hi <think>\n")) == ("x", "hm", [])


def test_tokens_that_must_arrive_as_text() -> None:
    assert template_format("<tool_call>").preserved == ("<tool_call>",)
    assert template_format("[TOOL_CALLS] [").preserved == ("[TOOL_CALLS]",)
    assert template_format("{").preserved == ()
    assert template_format("functools[").preserved == ()


def test_spellings() -> None:
    assert set(spellings("[TOOL_CALLS] [")) == {"[TOOL_CALLS] [", "[TOOL_CALLS][", "[TOOL_CALLS]\n["}
    assert spellings("<tool_call>") == ("<tool_call>",)
