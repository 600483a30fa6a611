"""Calls written as elements, one for the function and one for each argument: `<function=f><parameter=k>v</parameter>…`.

The formats differ in their tags only. Values are bare text; the tool's schema says what they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.chat.tape import Script, Tape, content
from engine.chat.tools import spoken
from engine.chat.tools.calls import MalformedCall, Unreadable, emitted
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.format import Turn
from engine.chat.tools.jsontext import parse
from engine.chat.tools.typed import JSON_TYPES, typed
from engine.requests import ToolCall


@dataclass(frozen=True, slots=True)
class Markup:
    """A reader of one such format.

    `function` has the groups `name` and `body`, and finds every call in a block; `parameter` has `name` and `value`,
    may have `type`, and finds every argument in a body. `last` is what a whole block ends with before its closing
    tag: an answer may stop there. A block without a call is given back as content, or fails the answer with
    `complaint`. `trim_after`: whitespace behind a block is dropped.
    """

    opening: str
    closing: str
    last: str
    function: re.Pattern[str]
    parameter: re.Pattern[str]
    complaint: str | None = None
    trim_after: bool = False

    def __call__(self, tape: Tape, turn: Turn) -> Script[None]:
        """Read the content of an answer. Raises MalformedCall."""
        while (yield from tape.pour(content, self.opening, trim=True)):
            yield from self.read_block(tape, turn.tools)
            if self.trim_after:
                yield from tape.skip_space()

    def read_block(self, tape: Tape, tools: Toolbox) -> Script[None]:
        """Emit the calls of one block. The opening tag is consumed. Raises MalformedCall."""
        body, closing = yield from tape.until(self.closing)
        block = self.opening + body + closing
        calls = self.calls(block, tools) if closing or body.rstrip().endswith(self.last) else []
        if not calls and closing and self.complaint is not None:
            raise MalformedCall(self.complaint)
        yield from emitted(calls)
        if not calls:
            yield content(block)

    def calls(self, block: str, tools: Toolbox) -> list[ToolCall]:
        """The calls in a whole block. Models that mix up their formats write JSON in it."""
        found = [
            ToolCall(name, self._arguments(name, match["body"], tools))
            for match in self.function.finditer(block)
            if (name := match["name"].strip())
        ]
        return found or self._spoken(block, tools)

    def _spoken(self, block: str, tools: Toolbox) -> list[ToolCall]:
        try:
            return spoken.read_calls(parse(block.removeprefix(self.opening).removesuffix(self.closing)), tools)
        except Unreadable:
            return []

    def _arguments(self, function: str, body: str, tools: Toolbox) -> dict[str, object]:
        return {
            (name := match["name"].strip()): typed(match["value"], tools.types(function, name) or _stated(match))
            for match in self.parameter.finditer(body)
        }


def _stated(match: re.Match[str]) -> frozenset[str]:
    """The types that an argument itself claims to have: `string="false"`, `type="number"`."""
    match match.groupdict().get("type"):
        case None | "true":
            return frozenset()
        case "false":
            return JSON_TYPES
        case kind:
            return frozenset({kind})
