"""Llama 3.1 and later: a call is the whole answer, an object of JSON, perhaps behind `<|python_tag|>`."""

from __future__ import annotations

from engine.api import ToolCall
from engine.chat.output.format import Shape, Turn, json_call
from engine.chat.output.pythonic import python_calls
from engine.chat.output.stream import Script, Tape, Unreadable, content, emitted
from engine.chat.output.tagged_json import tagged

PYTHON = "<|python_tag|>"
SHAPE = Shape(calls=json_call(arguments="parameters"))
_read_json = tagged("{")


def read_llama(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer. Calls of built-in tools look like `brave_search.call(query="x")`."""
    if (yield from tape.accept(PYTHON, after_space=True)) and not (yield from _begins_with_brace(tape)):
        yield from _read_built_in(tape)
    else:
        yield from _read_json(tape, turn)


def _begins_with_brace(tape: Tape) -> Script[bool]:
    brace = yield from tape.accept("{", after_space=True)
    tape.unread(brace)
    return bool(brace)


def _read_built_in(tape: Tape) -> Script[None]:
    text, _ = yield from tape.upto()
    try:
        calls = python_calls(text)
    except Unreadable:
        yield content(PYTHON + text)
    else:
        yield from emitted(ToolCall(call.name.removesuffix(".call"), call.arguments) for call in calls)
