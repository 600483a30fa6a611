"""Llama's calls: objects, and built-in tools."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output.llama import read_llama
from tests.engine.chat.reading import said

ADD = '{"name": "add", "parameters": {"a": 1}}'
CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (ADD, "", [CALL]),
        (f"<|python_tag|>{ADD}", "", [CALL]),
        (f"<|python_tag|>{ADD}; {ADD}", "", [CALL, CALL]),
        ('{"type": "function", "name": "add", "parameters": {"a": 1}}', "", [CALL]),
        ('<|python_tag|>brave_search.call(query="x y")', "", [("brave_search", {"query": "x y"})]),
        ("<|python_tag|>print(1", "<|python_tag|>print(1", []),
        ("The answer", "The answer", []),
        ('{"name": "nope"}', '{"name": "nope"}', []),
    ],
)
def test_calls(text: str, content: str, calls: list[Any]) -> None:
    assert said(read_llama, text) == (content, "", calls)
