"""JSON between two tags."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import Format, MalformedCall, OutputParser
from engine.chat.output.tagged_json import TaggedJSON
from tests.engine.chat.reading import TURN, said, steps

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
    assert said(format, text) == (content, "", calls)


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
    assert said(LENIENT, f"{text} b") == (f"{text} b", "", [])
    with pytest.raises(MalformedCall) as caught:
        said(STRICT, text)
    assert str(caught.value) == fault


@pytest.mark.parametrize("text", ["<tool_call>", '<tool_call>{"name": "add"', "<tool_call>{", "<tool_"])
def test_a_block_that_was_cut_off_is_content(text: str) -> None:
    assert said(STRICT, text) == (text, "", [])


def test_the_rest_of_an_array_that_was_cut_off_is_content() -> None:
    assert said(LENIENT, f'<tool_call>[{ADD}, {{"name": "add", "ar') == ('{"name": "add", "ar', "", [CALL])


def test_each_call_of_an_array_is_emitted_at_its_last_brace() -> None:
    parser = OutputParser(Format(LENIENT), TURN)
    said_by_step = list(steps(parser, ["<tool_call>[", ADD, ", ", ADD, "]", "</tool_call>"]))
    assert [len(delta.tool_calls) for delta in said_by_step] == [0, 1, 0, 1, 0, 0, 0]


def test_calls_that_end_with_the_answer() -> None:
    granite = TaggedJSON("<|tool_call|>", "")
    assert said(granite, f"<|tool_call|>[{ADD}, {ADD}]") == ("", "", [CALL, CALL])
    assert said(granite, "<|tool_call|>[1]") == ("<|tool_call|>[1]", "", [])


def test_whitespace_behind_a_block() -> None:
    assert said(TaggedJSON(trim_after=True), f"a <tool_call>{ADD}</tool_call>\n\nb") == ("ab", "", [CALL])
