"""Mistral: calls `[TOOL_CALLS]f[ARGS]{…}` of newer models, `[TOOL_CALLS][{"name": …, "arguments": …}]` of older."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from engine.api import ToolCall
from engine.chat.output import json_calls
from engine.chat.output.format import Format, FormatSpec, ParseContext, ToolCallSpec, json_list
from engine.chat.output.json_calls import parse, read_arguments, read_held_call, read_object
from engine.chat.output.stream import (
    MalformedCall,
    ParserCoroutine,
    TextBuffer,
    Unreadable,
    content,
    emitted,
    reasoning,
)
from engine.chat.output.toolset import ToolSet

CALLS, THINK, END_THINK = "[TOOL_CALLS]", "[THINK]", "[/THINK]"
_HEAD = re.compile(r"(?P<name>[\w.-]+)(?:\s*\[CALL_ID\](?P<id>\w+))?(?:\s*\[ARGS\])?")


@dataclass(frozen=True, slots=True)
class Mistral:
    """Reads both. `strict`: a call of an undeclared function, or one that is no JSON, fails the answer."""

    strict: bool = False

    def __call__(self, buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        """Read an answer with its reasoning. Raises MalformedCall if `strict`."""
        if context.opened(THINK):
            buffer.push_back(THINK)
        while tag := (yield from buffer.emit_until(content, CALLS, THINK, trim=True)):
            if tag == CALLS:
                yield from self._read_calls(buffer, context.tools)
            else:
                yield from buffer.emit_until(reasoning, END_THINK)
                yield from buffer.skip_space()

    def _read_calls(self, buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[None]:
        """Emit the calls behind the tag: a name and arguments, or the objects of an array."""
        head, brace = yield from buffer.read_until("{", CALLS, keep=True)
        named = _HEAD.fullmatch(head.strip())
        if brace != "{" or not (named or head.strip() in ("", "[")):
            yield content(CALLS + head)
            return
        yield from self._read_object(buffer, tools, CALLS + head, named)
        while not named and (yield from self._another(buffer)):
            yield from self._read_object(buffer, tools, "", None)

    def _another(self, buffer: TextBuffer) -> ParserCoroutine[bool]:
        """Whether an array goes on with another object; consumes the comma, or the array's end."""
        if not (yield from buffer.accept(",", after_space=True)):
            yield from buffer.accept("]", after_space=True)
            return False
        brace = yield from buffer.accept("{", after_space=True)
        buffer.push_back(brace)
        return bool(brace)

    def _read_object(
        self, buffer: TextBuffer, tools: ToolSet, before: str, named: re.Match[str] | None
    ) -> ParserCoroutine[None]:
        """Emit the calls in the next object, or it and the text `before` it as content."""
        announced, whole = False, True
        if not buffer.held:
            body, whole = yield from read_object(buffer)
        elif named:
            body, announced = (yield from read_arguments(buffer, named["name"], named["id"] or "")), True
        else:
            body, whole, announced = yield from read_held_call(buffer, tools)
        try:
            value = parse(body)
            calls = (
                [ToolCall(named["name"], value, named["id"] or "")] if named else json_calls.read_calls(value, tools)
            )
        except Unreadable as error:
            if announced:  # the answer ends within it
                return
            if self.strict and whole:
                raise MalformedCall(str(error)) from None
            yield content(before + body)
            return
        unknown = [call.name for call in calls if call.name not in tools]
        if self.strict and unknown:
            raise MalformedCall(f"tool '{unknown[0]}' not found")
        yield from emitted(calls)


MISTRAL = Format(
    Mistral(),
    FormatSpec((THINK, END_THINK), calls=ToolCallSpec(CALLS, "[ARGS]", "", separator="", tag=CALLS)),
    (CALLS, THINK, END_THINK, "[ARGS]"),
    thinking=True,
)
MISTRAL_LISTED = replace(MISTRAL, spec=replace(MISTRAL.spec, calls=replace(json_list(f"{CALLS}["), tag=CALLS)))
MINISTRAL = replace(MISTRAL, read=Mistral(strict=True), thinking=False)
