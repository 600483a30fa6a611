"""Llama 3.1 and later: a call is the whole answer, an object of JSON, perhaps behind `<|python_tag|>`."""

from __future__ import annotations

from engine.api import ToolCall
from engine.chat.output.format import FormatSpec, ParseContext, json_call
from engine.chat.output.pythonic import python_calls
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.tagged_json import tagged

PYTHON = "<|python_tag|>"
SHAPE = FormatSpec(calls=json_call(arguments="parameters"))
_read_json = tagged("{")


def read_llama(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer. Calls of built-in tools look like `brave_search.call(query="x")`."""
    if (yield from buffer.accept(PYTHON, after_space=True)) and not (yield from _begins_with_brace(buffer)):
        yield from _read_built_in(buffer)
    else:
        yield from _read_json(buffer, turn)


def _begins_with_brace(buffer: TextBuffer) -> ParserCoroutine[bool]:
    brace = yield from buffer.accept("{", after_space=True)
    buffer.push_back(brace)
    return bool(brace)


def _read_built_in(buffer: TextBuffer) -> ParserCoroutine[None]:
    text, _ = yield from buffer.read_until(keep=True)
    try:
        calls = python_calls(text)
    except Unreadable:
        yield content(PYTHON + text)
    else:
        yield from emitted(ToolCall(call.name.removesuffix(".call"), call.arguments) for call in calls)
