"""JSON inside an answer, Go's words for what is wrong with it, and the calls in it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat.output import ToolSet
from engine.chat.output.json_calls import BadJSON, CutJSON, parse, read_calls, read_object
from engine.chat.output.stream import ParserCoroutine, StreamParser, TextBuffer, Unreadable, content
from tests.engine.chat.reading import TOOLS, answer, cut


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ('{"a":["]",1 2]}', "invalid character '2' after array element"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        ('{"a":"\\x"}', "invalid character 'x' in string escape code"),
        ('{"a":1}\n x', "invalid character 'x' after top-level value"),
        ("\n", "unexpected end of JSON input"),
        ("[" * 100_000, "exceeded max depth"),
    ],
)
def test_faults(text: str, words: str) -> None:
    with pytest.raises(BadJSON) as caught:
        parse(text)
    assert str(caught.value) == words


@pytest.mark.parametrize("text", ["", '{"a":1', "[1", '{"a":"abc', '{"a":', "{"])
def test_a_text_that_ends_early(text: str) -> None:
    with pytest.raises(CutJSON, match="unexpected end of JSON input"):
        parse(text)


def test_what_python_would_not_take_or_should_not() -> None:
    assert parse('{"a": "x\ny\tz"}') == {"a": "x\ny\tz"}
    assert parse(r'"\ud83dx \ud83d\ude00 \\ud83d"') == "\ufffdx 😀 \\ud83d"
    assert parse("12345678901234567890") == 12345678901234567890


def raw_object(stop: str, text: str, places: list[int]) -> str:
    def script(buffer: TextBuffer) -> ParserCoroutine[None]:
        body, complete = yield from read_object(buffer, stop)
        yield content(f"{body}|{complete}|")
        yield from buffer.emit_until(content)

    return answer(StreamParser(script), cut(text, places)).content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": {"b": "}"}} rest', '{"a": {"b": "}"}}|True| rest'),
        ('{"a": "\\"}"} rest', '{"a": "\\"}"}|True| rest'),
        ('{"a": "\\\\"} rest', '{"a": "\\\\"}|True| rest'),
        ('{"a": "</stop>"}</stop>', '{"a": "</stop>"}|True|</stop>'),
        ('{"a": 1</stop>}', '{"a": 1|False|</stop>}'),
        ('{"a": [1, 2', '{"a": [1, 2|False|'),
    ],
)
@given(places=st.lists(st.integers(0, 40), max_size=6))
def test_where_an_object_ends(text: str, expected: str, places: list[int]) -> None:
    assert raw_object("</stop>", text, places) == expected


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.text(max_size=8), lambda inner: st.lists(inner), max_leaves=5)
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_every_object_is_found_whole(value: dict[str, object], places: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert raw_object("", text + "}", places) == f"{text}|True|}}"
    assert parse(text) == value


def test_numbers_that_are_too_large() -> None:
    assert parse('{"a": [1e999, -1e999, 1e308]}') == {"a": [sys.float_info.max, -sys.float_info.max, 1e308]}


# Calls as JSON objects.


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
