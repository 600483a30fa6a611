"""JSON between two tags, and behind the tag that a Go template shows."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import Format, MalformedCall, OutputParser, ParseContext, ToolSet, template_format
from engine.chat.output.tagged_json import TaggedJSON, spellings
from modelfile.conversation import Tool
from tests.engine.chat.reading import CONTEXT, TOOLS, parsed, steps

LENIENT = TaggedJSON()
STRICT = TaggedJSON(complaint="failed to parse JSON: ")
ADD = '{"name": "add", "arguments": {"a": 1}}'
CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"Hi \n<tool_call>\n{ADD}\n</tool_call> bye ", "Hi bye", [CALL]),
        (f"<tool_call>{ADD}", "", [CALL]),
        (f"<tool_call>{ADD}}}</tool_call>", "", [CALL]),
        (f"<tool_call>{ADD}</tool_call>\n<tool_call>{ADD}</tool_call>", "", [CALL, CALL]),
        (f"<tool_call>[{ADD}, {ADD}]</tool_call>", "", [CALL, CALL]),
        (f"<tool_call>{ADD}\n{ADD}</tool_call>", "", [CALL, CALL]),
        ('<tool_call>{"name": "add", "parameters": {"a": 1}}</tool_call>', "", [CALL]),
        ('<tool_call>[{"add": {"a": 1}}]</tool_call>', "", [CALL]),
        ('<tool_call>{"name": "nope"}</tool_call>', "", [("nope", {})]),
        ('<tool_call>{"name": "add", "arguments": {"a": "</tool_call>"}}', "", [("add", {"a": "</tool_call>"})]),
    ],
)
@pytest.mark.parametrize("format", [LENIENT, STRICT])
def test_calls(format: TaggedJSON, text: str, content: str, calls: list[Any]) -> None:
    assert parsed(format, text) == (content, "", calls)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            '{"name": "add", "arguments": {"a": 1,}}',
            "failed to parse JSON: invalid character '}' looking for beginning of object key string",
        ),
        ("hello", "failed to parse JSON: invalid character 'h' looking for beginning of value"),
        ("", "failed to parse JSON: unexpected end of JSON input"),
        ('{"name": "add"', "failed to parse JSON: unexpected end of JSON input"),
        ('{"arguments": {}}', "empty function name"),
        ('{"name": "add", "arguments": [1]}', "arguments are not an object"),
    ],
)
def test_a_block_without_a_call(body: str, fault: str) -> None:
    text = f"a<tool_call>{body}</tool_call>"
    assert parsed(LENIENT, f"{text} b") == (f"{text} b", "", [])
    with pytest.raises(MalformedCall) as caught:
        parsed(STRICT, text)
    assert str(caught.value) == fault


@pytest.mark.parametrize("text", ["<tool_call>", '<tool_call>{"name": "add"', "<tool_call>{", "<tool_"])
def test_a_block_that_was_cut_off_is_content(text: str) -> None:
    assert parsed(STRICT, text) == (text, "", [])


def test_the_rest_of_an_array_that_was_cut_off_is_content() -> None:
    assert parsed(LENIENT, f'<tool_call>[{ADD}, {{"name": "add", "ar') == ('{"name": "add", "ar', "", [CALL])


def test_each_call_of_an_array_is_emitted_at_its_last_brace() -> None:
    parser = OutputParser(Format(LENIENT), CONTEXT)
    parsed_by_step = list(steps(parser, ["<tool_call>[", ADD, ", ", ADD, "]", "</tool_call>"]))
    assert [len(delta.tool_calls) for delta in parsed_by_step] == [0, 1, 0, 1, 0, 0, 0]


def test_calls_that_end_with_the_answer() -> None:
    granite = TaggedJSON("<|tool_call|>", "")
    assert parsed(granite, f"<|tool_call|>[{ADD}, {ADD}]") == ("", "", [CALL, CALL])
    assert parsed(granite, "<|tool_call|>[1]") == ("<|tool_call|>[1]", "", [])


def test_whitespace_behind_a_block() -> None:
    assert parsed(TaggedJSON(trim_after=True), f"a <tool_call>{ADD}</tool_call>\n\nb") == ("ab", "", [CALL])


# The format of models whose Go template tells only how a call begins.

PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
PARIS_CALL = ("get_weather", {"city": "Paris"})
DEEPSEEK_TAG = "<|tool▁calls▁begin|><|tool▁call▁begin|>function<|tool▁sep|>"


@pytest.mark.parametrize(
    ("tag", "text", "content", "calls"),
    [
        ("<tool_call>", "Hello <tool_ done", "Hello <tool_ done", []),
        ("<tool_call>", f"Let me check. <tool_call>{PARIS}</tool_call> bye", "Let me check. ", [PARIS_CALL]),
        (
            "<tool_call>",
            f"<tool_call>{PARIS}</tool_call>\n<tool_call>{PARIS}</tool_call>",
            "",
            [PARIS_CALL, PARIS_CALL],
        ),
        ("<tool_call>", '<tool_call>{"arguments": {"a": "5"}, "name": "add"}', "", [("add", {"a": "5"})]),
        ("<tool_call>", '<tool_call>{"name": "now"}</tool_call>', "", [("now", {})]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>{"add": {"a": 1}}</tool_call>', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>add({"a": 1})</tool_call>', "", [("add", {"a": 1})]),
        ("<tool_call>", '<tool_call>add({"name": "x"})</tool_call>', "", [("add", {"name": "x"})]),
        ("<tool_call>", '<tool_call>{"type":"function","function":' + PARIS + "}", "", [PARIS_CALL]),
        ("<tool_call>", '<tool_call>{"tool_calls": [' + f"{PARIS}, {PARIS}]}}", "", [PARIS_CALL, PARIS_CALL]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": {"a": 1,}}\n<tool_call>' + PARIS, "", [PARIS_CALL]),
        ("<tool_call>", '<tool_call>{"name": "add", "arguments": {"a": 1}\n<tool_call>' + PARIS, "", [PARIS_CALL]),
        ("[TOOL_CALLS] [", f"[TOOL_CALLS][{PARIS}, {PARIS}][/TOOL_CALLS]", "", [PARIS_CALL, PARIS_CALL]),
        ("Action: ```json\n[", f"Action: ```json [{PARIS}]\n```", "", [PARIS_CALL]),
        ("functools[", f"functools[{PARIS}]", "", [PARIS_CALL]),
        (DEEPSEEK_TAG, f'{DEEPSEEK_TAG}get_weather\n```json\n{{"city": "Paris"}}\n```', "", [PARIS_CALL]),
        ("{", PARIS, "", [PARIS_CALL]),
        ("{", f"{PARIS}; {PARIS}", "", [PARIS_CALL, PARIS_CALL]),
        ("{", f"[{PARIS}, {PARIS}]", "", [PARIS_CALL, PARIS_CALL]),
        ("{", f"\n {PARIS} and text", "\n ", [PARIS_CALL]),
        ("[", f"[\n{PARIS},\n{PARIS}\n]", "", [PARIS_CALL, PARIS_CALL]),
        ("[", f"[{PARIS}, {PARIS[:20]}", PARIS[:20], [PARIS_CALL]),
    ],
)
def test_calls_behind_a_tag(tag: str, text: str, content: str, calls: list[Any]) -> None:
    assert parsed(template_format(tag), text) == (content, "", calls)


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
    assert parsed(template_format(tag), text) == (text, "", [])


def test_what_was_no_call_does_not_end_the_calls() -> None:
    text = '<tool_call>{"name": "nope"}</tool_call> <tool_call>' + PARIS
    assert parsed(template_format("<tool_call>"), text) == (
        '<tool_call>{"name": "nope"}</tool_call> ',
        "",
        [PARIS_CALL],
    )
    text = f'<tool_call>{PARIS}</tool_call> <tool_call>{{"name": "nope"}}'
    assert parsed(template_format("<tool_call>"), text) == ('<tool_call>{"name": "nope"}', "", [PARIS_CALL])


def test_a_call_is_emitted_at_its_last_brace() -> None:
    chunks = ["[", '{"name": "now", ', '"arguments": {}', "}", ', {"name": "now"', "}", "]"]
    parser = OutputParser(template_format("["), CONTEXT)
    assert [len(delta.tool_calls) for delta in steps(parser, chunks)] == [0, 0, 0, 1, 0, 1, 0, 0]


def test_without_tools_everything_is_content() -> None:
    for tag in ("{", "<tool_call>"):
        assert parsed(template_format(tag), f"<tool_call>{PARIS}", ParseContext()) == (f"<tool_call>{PARIS}", "", [])


def test_names_of_tools_that_are_parts_of_one_another() -> None:
    tools = ToolSet(map(Tool, ("say", "say_hello", "say-hello-world")))
    for name in tools.names:
        assert parsed(template_format("<call>"), f"<call>{name}({{}})", ParseContext(tools)) == ("", "", [(name, {})])


def test_reasoning_comes_before_calls_and_only_when_asked_for() -> None:
    format = template_format("<tool_call>", ("<think>", "</think>"))
    text = f"<think>\nhm\n</think>\n\n<tool_call>{PARIS}</tool_call>"
    assert parsed(format, text) == ("", "hm\n", [PARIS_CALL])
    assert parsed(format, text, ParseContext(ToolSet(TOOLS), think=False)) == (
        "<think>\nhm\n</think>\n\n",
        "",
        [PARIS_CALL],
    )
    assert parsed(format, "hm</think>x", ParseContext(prompt="user: hi <think>\n")) == ("x", "hm", [])


def test_tokens_that_must_arrive_as_text() -> None:
    assert template_format("<tool_call>").preserved == ("<tool_call>",)
    assert template_format("[TOOL_CALLS] [").preserved == ("[TOOL_CALLS]",)
    assert template_format("{").preserved == ()
    assert template_format("functools[").preserved == ()


def test_spellings() -> None:
    assert set(spellings("[TOOL_CALLS] [")) == {"[TOOL_CALLS] [", "[TOOL_CALLS][", "[TOOL_CALLS]\n["}
    assert spellings("<tool_call>") == ("<tool_call>",)
