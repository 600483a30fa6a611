"""Calls as JSON objects."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import ToolSet
from engine.chat.output.json_calls import read_calls
from engine.chat.output.stream import Unreadable
from tests.engine.chat.reading import TOOLS


@pytest.mark.parametrize(
    "value",
    [
        {"name": "add", "arguments": {"a": 1}},
        {"tool_name": "add", "parameters": {"a": 1}},
        {"function": "add", "arguments": {"a": 1}},
        {"name": "add", "arguments": '{"a": 1}'},
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
        {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"add": {"a": 1}},
        [{"add": {"a": 1}}],
    ],
)
def test_spellings_of_a_call(value: Any) -> None:
    assert [(call.name, call.arguments) for call in read_calls(value, ToolSet(TOOLS))] == [("add", {"a": 1})]


@pytest.mark.parametrize("arguments", [None, "", {}, "{}"])
def test_no_arguments(arguments: Any) -> None:
    assert [call.arguments for call in read_calls({"name": "f", "arguments": arguments}, ToolSet())] == [{}]


@pytest.mark.parametrize(
    "value",
    [
        1,
        "add",
        [],
        {},
        {"name": ""},
        {"name": 1},
        {"a": {"b": 1}},
        {"name": "f", "arguments": [1]},
        {"name": "f", "arguments": "x"},
    ],
)
def test_what_is_no_call(value: Any) -> None:
    with pytest.raises(Unreadable):
        read_calls(value, ToolSet(TOOLS))
