"""MiniMax M3: elements named after the arguments, nested for objects, `<item>` for each member of an array."""

from __future__ import annotations

import re
from typing import Any

from engine.chat.tape import Script, Tape, content
from engine.chat.tools.calls import emitted
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.format import Turn
from engine.chat.tools.typed import JSON_TYPES, typed
from engine.requests import ToolCall

SPACE = "]<]minimax[>["
"""Stands before every tag, so that no value can be mistaken for one."""

OPENING, CLOSING = f"{SPACE}<tool_call>", f"{SPACE}</tool_call>"
_S = re.escape(SPACE)
_INVOKE = re.compile(rf'{_S}<invoke name="(?P<name>[^"]*)">(?P<body>.*?){_S}</invoke>', re.DOTALL)
_ELEMENT = re.compile(rf"{_S}<(?P<name>[^/<>\s]+)>(?P<value>.*?){_S}</(?P=name)>", re.DOTALL)


def read_minimax3(tape: Tape, turn: Turn) -> Script[None]:
    """Read the content of an answer."""
    while (yield from tape.pour(content, OPENING, trim=True)):
        body, end = yield from tape.until(CLOSING)
        calls = _calls(body, turn.tools)
        yield from emitted(calls)
        if not calls:
            yield content(OPENING + body + end)


def _calls(body: str, tools: Toolbox) -> list[ToolCall]:
    return [ToolCall(match["name"], _arguments(match, tools)) for match in _INVOKE.finditer(body)]


def _arguments(invoke: re.Match[str], tools: Toolbox) -> dict[str, Any]:
    return {
        match["name"]: _value(match["value"], tools.types(invoke["name"], match["name"]))
        for match in _ELEMENT.finditer(invoke["body"])
    }


def _value(text: str, types: frozenset[str]) -> Any:
    inside = list(_ELEMENT.finditer(text))
    if not inside:
        return typed(text, types)
    if all(match["name"] == "item" for match in inside):
        return [_value(match["value"], JSON_TYPES) for match in inside]
    return {match["name"]: _value(match["value"], JSON_TYPES) for match in inside}
