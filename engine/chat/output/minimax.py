"""MiniMax M3: elements named after the arguments, nested for objects, with `<item>` for each element of an array."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from engine.api import ToolCall
from engine.chat.output.format import NAME, ArgumentSpec, Format, FormatSpec, ToolCallSpec
from engine.chat.output.reasoning import read_blocks
from engine.chat.output.stream import complete
from engine.chat.output.toolset import ToolSet
from engine.chat.output.values import JSON_TYPES, typed

SPACE = "]<]minimax[>["
"""Stands before every tag, so that no value looks like one."""

OPENING, CLOSING = f"{SPACE}<tool_call>", f"{SPACE}</tool_call>"
_END_INVOKE = f"{SPACE}</invoke>"
_SPEC = FormatSpec(
    calls=ToolCallSpec(
        f'{SPACE}<invoke name="',
        '">',
        f"{_END_INVOKE}\n",
        f"{OPENING}\n",
        CLOSING,
        "",
        arguments=ArgumentSpec(f"{SPACE}<", ">", f"{SPACE}</{NAME}>", names=r"[^/<>\s]+"),
        reserved=(SPACE.lstrip("]"),),
        names=r'[^"\s](?:[^"\n]*[^"\s])?',
        strips_leading_space=True,
        tag=OPENING,
    )
)
_TAG = re.compile(
    rf'{re.escape(SPACE)}<(?P<end>/)?(?P<name>[^/<>\s]{{1,256}})(?: name="(?P<function>[^"]{{1,256}})")?>'
)
_DEEPEST = 100


@dataclass(slots=True)
class _Element:
    name: str = ""
    function: str = ""
    text: str = ""
    children: list[_Element] = field(default_factory=list)


def _calls(body: str, tools: ToolSet) -> list[ToolCall]:
    invocations = [element for element in _tree(body).children if element.function]
    return [ToolCall(element.function, _arguments(element, tools)) for element in invocations]


def _tree(body: str) -> _Element:
    """The elements of a block. A closing tag also closes the elements inside of its own that are still open."""
    stack, at = [_Element()], 0
    for match in _TAG.finditer(body):
        stack[-1].text += body[at : match.start()]
        at = match.end()
        if not match["end"] and len(stack) < _DEEPEST:
            stack.append(_Element(match["name"], match["function"] or ""))
            stack[-2].children.append(stack[-1])
        elif match["end"] and match["name"] in [element.name for element in stack]:
            while stack.pop().name != match["name"]:
                pass
    return stack[0]


def _arguments(invocation: _Element, tools: ToolSet) -> dict[str, Any]:
    return {
        element.name: _value(element, tools.types(invocation.function, element.name)) for element in invocation.children
    }


def _value(element: _Element, types: frozenset[str]) -> Any:
    if not element.children:
        return typed(element.text, types)
    if all(child.name == "item" for child in element.children):
        return [_value(child, JSON_TYPES) for child in element.children]
    return {child.name: _value(child, JSON_TYPES) for child in element.children}


def _complete_calls(body: str, tools: ToolSet) -> list[ToolCall]:
    return _calls(complete(body, _END_INVOKE), tools)


read_minimax3 = read_blocks(OPENING, CLOSING, _calls, parse_cut=_complete_calls, trim=True, unclosed=False)
"""Reads the content of an answer."""

MINIMAX3 = Format(read_minimax3, _SPEC, (SPACE,))
