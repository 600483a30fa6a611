"""The parsers by name: where their answers begin, and what each says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Message
from engine.chat.output import NAMED, ParseContext, ToolSet
from tests.engine.chat.reading import TOOLS, parsed

XML = "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
CALL = ("add", {"a": 1})
TEXT = "why\n</think>\n\nso"


def test_all_names() -> None:
    assert len(NAMED) == 27
    assert {name for name, format in NAMED.items() if not format.tools} == {"olmo3-think", "passthrough"}


@pytest.mark.parametrize("name", ["qwen3-thinking", "qwen3.5", "ornith", "nemotron-3-nano", "deepseek3", "glm-4.7"])
def test_thinking_is_read_if_asked_for(name: str) -> None:
    assert parsed(NAMED[name], TEXT, ParseContext()) == ("so", "why", [])
    assert parsed(NAMED[name], "so", ParseContext(think=False)) == ("so", "", [])


@pytest.mark.parametrize(
    "name", ["qwen3.5", "nemotron-3.5-nano", "deepseek3", "olmo3-think", "qwen3-vl-thinking", "cogito"]
)
def test_an_answer_that_goes_on_with_a_text_does_not_think(name: str) -> None:
    assert parsed(NAMED[name], "so on", ParseContext(last=Message("assistant", "and"))) == ("so on", "", [])
    assert parsed(NAMED[name], TEXT, ParseContext(last=Message("user", "and"))) == ("so", "why", [])


@pytest.mark.parametrize("name", ["olmo3-think", "qwen3-vl-thinking"])
def test_thinking_that_cannot_be_turned_off(name: str) -> None:
    assert parsed(NAMED[name], TEXT, ParseContext(think=False)) == ("so", "why", [])


@pytest.mark.parametrize("name", ["qwen3.5", "nemotron-3-nano"])
def test_a_call_ends_thinking(name: str) -> None:
    assert parsed(NAMED[name], f"<think>\nwhy\n{XML}") == ("", "why", [CALL])


def test_cogito_does_not_think_with_tools() -> None:
    assert parsed(NAMED["cogito"], TEXT, ParseContext(ToolSet(TOOLS))) == (TEXT, "", [])
    assert parsed(NAMED["cogito"], TEXT, ParseContext()) == ("so", "why", [])


def test_lfm_thinks_when_it_wants() -> None:
    format = NAMED["lfm2-thinking"]
    assert parsed(format, "<think>\nwhy</think>\nso", ParseContext()) == ("so", "why", [])
    assert parsed(format, "so", ParseContext()) == ("so", "", [])
    text = "<think>why</think>so"
    assert parsed(format, text, ParseContext(think=False)) == (text, "", [])
    assert parsed(NAMED["lfm2"], text, ParseContext()) == (text, "", [])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("qwen3-coder", f"ok\n{XML}", ("ok", "", [CALL])),
        (
            "qwen3-vl-instruct",
            '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>\n\nok',
            ("ok", "", [CALL]),
        ),
        ("glm-ocr", "<think>x", ("<think>x", "", [])),
        ("passthrough", XML, (XML, "", [])),
        ("gemma4-no-thinking", "<|channel>thought\nx<channel|>ok", ("ok", "", [])),
    ],
)
def test_some_answers(name: str, text: str, expected: tuple[str, str, list[Any]]) -> None:
    assert parsed(NAMED[name], text) == expected


LAGUNA_ADD = "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>"
LAGUNA_CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "thinking", "calls"),
    [
        ("\nhm\n</think>\n\nA", "A", "hm", []),
        ("<think>hm</think>A", "A", "hm", []),
        (f"hm {LAGUNA_ADD} A", "A", "hm", [LAGUNA_CALL]),
        (f"hm</think>A <think>ha</think> B{LAGUNA_ADD}", "AB", "hmha", [LAGUNA_CALL]),
        ('hm</think><tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "", "hm", [LAGUNA_CALL]),
    ],
)
def test_laguna(text: str, content: str, thinking: str, calls: list[Any]) -> None:
    assert parsed(NAMED["laguna"], text) == (content, thinking, calls)
    assert parsed(NAMED["poolside-v1"], text) == (content, thinking, calls)


def test_laguna_with_reasoning_that_nobody_wants() -> None:
    context = ParseContext(ToolSet(TOOLS), think=False)
    assert parsed(NAMED["laguna"], f"</think>\nA <think>ha</think>B{LAGUNA_ADD}", context) == ("AB", "", [LAGUNA_CALL])


def test_a_laguna_answer_that_goes_on_with_a_message() -> None:
    context = ParseContext(last=Message("assistant", "A"))
    assert parsed(NAMED["laguna"], "B", context) == ("B", "", [])
    assert parsed(NAMED["poolside-v1"], "hm</think>B", context) == ("B", "hm", [])
