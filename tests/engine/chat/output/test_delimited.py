"""Calls between special tokens: DeepSeek and Kimi K2."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import Format, OutputParser
from engine.chat.output.delimited import read_deepseek, read_kimi
from tests.engine.chat.reading import CONTEXT, answer, parsed

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
ADD = '<｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>'
FENCED = '<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>'
CALL = ("add", {"a": 1})

SECTION, END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
KIMI = '<|tool_call_begin|>functions.add:{}<|tool_call_argument_begin|>{{"a": 1}}<|tool_call_end|>'


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"x {BEGIN}{ADD}{END}", "x ", [CALL]),
        (f"{BEGIN}{FENCED}{END}", "", [CALL]),
        (f"{BEGIN}{ADD}{ADD}{END} y", " y", [CALL, CALL]),
        (f"{BEGIN}\n{ADD}\n{FENCED}\n{END}", "", [CALL, CALL]),
        (f"{ADD} y", " y", [CALL]),
        (f"{BEGIN}{ADD.removesuffix('<｜tool▁call▁end｜>')}{ADD}", "", [CALL, CALL]),
        (f"{BEGIN}{ADD.removesuffix('<｜tool▁call▁end｜>')}", "", [CALL]),
        (f"{BEGIN} y", f"{BEGIN} y", []),
        (f"{BEGIN}{ADD[:30]}", ADD[:30], []),
        (
            f"{BEGIN}<｜tool▁call▁begin｜>oops<｜tool▁call▁end｜>{ADD}{END}",
            "<｜tool▁call▁begin｜>oops<｜tool▁call▁end｜>",
            [CALL],
        ),
        ("a<｜tool▁output▁begin｜>b<｜tool▁output▁end｜>c", "abc", []),
        ("a<｜tool▁outputs▁begin｜>b<｜tool▁outputs▁end｜>c", "ac", []),
    ],
)
def test_deepseek(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(read_deepseek, text) == (content, "", calls)


def test_kimi() -> None:
    text = f"x {SECTION}{KIMI.format(0)}{KIMI.format(1)}{END_SECTION}"
    assert parsed(read_kimi, text) == ("x ", "", [CALL, CALL])
    ids = [call.id for call in answer(OutputParser(Format(read_kimi), CONTEXT), [text]).tool_calls]
    assert ids == ["functions.add:0", "functions.add:1"]
    broken = f"{SECTION}{KIMI.format(0)[:-25]}"
    assert parsed(read_kimi, broken) == (broken.removeprefix(SECTION), "", [])
