"""Calls in Python's notation: OLMo 3, LFM2, Llama 4 and 3."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import ParseContext
from engine.chat.output.pythonic import LFM, OLMO, python_calls, read_bare_python, read_lfm, read_llama
from engine.chat.output.stream import Unreadable
from tests.engine.chat.reading import parsed

ADD = ("add", {"a": 1, "b": 2.5})
NOW: tuple[str, dict[str, Any]] = ("now", {})


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("add(a=1, b=2.5)", [ADD]),
        ("[add(a=1, b=2.5), now()]", [ADD, NOW]),
        ("\nadd(a=1, b=2.5)\nnow()\n", [ADD, NOW]),
        ("f(a='x, y(z)', b=[1, {'k': None}], c=word)", [("f", {"a": "x, y(z)", "b": [1, {"k": None}], "c": "word"})]),
        ("ns.f-x(a=true)", [("ns.f-x", {"a": True})]),
    ],
)
def test_python_calls(text: str, calls: list[Any]) -> None:
    assert [(call.name, call.arguments) for call in python_calls(text)] == calls


@pytest.mark.parametrize(
    "text", ["", "[]", "add", "add(", "add(1)", "add(a=1", "[add(a=1)", "add(a=1) and more", "add(a:1)"]
)
def test_what_is_no_call(text: str) -> None:
    if text == "[add(a=1)":
        assert python_calls(text)
        return
    with pytest.raises(Unreadable):
        python_calls(text)


def test_olmo() -> None:
    text = "a <function_calls>add(a=1, b=2.5)\nnow()</function_calls> b"
    assert parsed(OLMO.format, text) == ("a  b", "", [ADD, NOW])
    assert parsed(OLMO.format, "<function_calls>oops</function_calls>") == (
        "<function_calls>oops</function_calls>",
        "",
        [],
    )


def test_lfm() -> None:
    text = f"{LFM.opening}[add(a=1, b=2.5)]{LFM.closing}\nok"
    assert parsed(read_lfm, text) == ("ok", "", [ADD])
    assert parsed(read_lfm, f"ok {LFM.opening}[now()]") == ("ok ", "", [NOW])


@pytest.mark.parametrize("text", ["[add(a=1, b=2.5), now()]", " add(a=1, b=2.5), now()"])
def test_calls_without_tags(text: str) -> None:
    assert parsed(read_lfm, text) == ("", "", [ADD, NOW])
    assert parsed(read_bare_python, text) == ("", "", [ADD, NOW])


@pytest.mark.parametrize(
    "text", [" [add(a=1), nope()]", "add(a=1) is a call", "[address()]", "[1, 2]", "add(a=", "address", ""]
)
def test_what_is_content(text: str) -> None:
    assert parsed(read_lfm, text) == (text, "", [])
    assert parsed(read_bare_python, text) == (text, "", [])


def test_without_tools_nothing_is_a_call() -> None:
    assert parsed(read_bare_python, "[now()]", ParseContext()) == ("[now()]", "", [])


LLAMA_ADD = '{"name": "add", "parameters": {"a": 1}}'
LLAMA_CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (LLAMA_ADD, "", [LLAMA_CALL]),
        (f"<|python_tag|>{LLAMA_ADD}", "", [LLAMA_CALL]),
        (f"<|python_tag|>{LLAMA_ADD}; {LLAMA_ADD}", "", [LLAMA_CALL, LLAMA_CALL]),
        ('{"type": "function", "name": "add", "parameters": {"a": 1}}', "", [LLAMA_CALL]),
        ('<|python_tag|>brave_search.call(query="x y")', "", [("brave_search", {"query": "x y"})]),
        ("<|python_tag|>print(1", "<|python_tag|>print(1", []),
        ("The answer", "The answer", []),
        ('{"name": "nope"}', '{"name": "nope"}', []),
    ],
)
def test_llama(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(read_llama, text) == (content, "", calls)
