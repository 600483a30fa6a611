"""Calls in Python's notation: `[f(a=1, b="x"), g()]`, as Llama 4, LFM2 and OLMo 3 write them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.api import ToolCall
from engine.chat.output.format import BLANK, ArgumentSpec, ParseContext, ToolCallSpec, Values
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.values import NAME, Literals


def python_calls(text: str) -> list[ToolCall]:
    """The calls in a list, or one after another. Raises Unreadable when the text is anything else."""
    reader = Literals(text)
    listed = reader.accept("[")
    calls = []
    while not reader.ended and not (listed and reader.accept("]")):
        name = reader.name()
        if not reader.accept("("):
            raise Unreadable(f"no ( after {name}")
        calls.append(ToolCall(name, reader.pairs("=", ")")))
        reader.accept(",", ";")
    if not calls or not reader.ended:
        raise Unreadable("no call")
    return calls


@dataclass(frozen=True, slots=True)
class TaggedPython:
    """A reader of calls between two tags. A block that is none is given back as content."""

    opening: str
    closing: str
    trim_after: bool = False

    def __call__(self, buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        """Read the content of an answer."""
        while (yield from buffer.emit_until(content, self.opening)):
            body, end = yield from buffer.read_until(self.closing)
            try:
                yield from emitted(python_calls(body))
            except Unreadable:
                yield content(self.opening + body + end)
            if self.trim_after:
                yield from buffer.skip_space()


def _calls(before: str, after: str, between: str) -> ToolCallSpec:
    arguments = ArgumentSpec("", "=", between=f",{BLANK}", values=Values.JSON, names=NAME)
    reserved = (after.removeprefix("]"),) if after != "]" else ()
    return ToolCallSpec("", "(", ")", before, after, between, arguments=arguments, reserved=reserved, names=NAME)


OLMO = TaggedPython("<function_calls>", "</function_calls>")
"""OLMo 3."""

OLMO_CALLS = _calls(OLMO.opening, OLMO.closing, "\n")

LFM = TaggedPython("<|tool_call_start|>", "<|tool_call_end|>", trim_after=True)
"""LFM2."""

LFM_CALLS = _calls(f"{LFM.opening}[", f"]{LFM.closing}", f",{BLANK}")

BARE_CALLS = _calls("[", "]", f",{BLANK}")
"""Llama 4."""


def read_lfm(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer of LFM2, which forgets its tags at times."""
    if not (yield from _read_bare(buffer, turn)):
        yield from LFM(buffer, turn)


def read_bare_python(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer that is either calls or content, as Llama 4 writes it."""
    if not (yield from _read_bare(buffer, turn)):
        yield from buffer.emit_until(content)


def _read_bare(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[bool]:
    """Read an answer that begins like a call of a known tool to its end; false, and nothing read, if it does not."""
    space = yield from buffer.skip_space()
    start = yield from buffer.accept(*(f"{bracket}{name}(" for name in turn.tools.names for bracket in ("[", "")))
    buffer.push_back(space + start)
    if not start:
        return False
    text, _ = yield from buffer.read_until(keep=True)
    try:
        calls = python_calls(text)
    except Unreadable:
        calls = []
    if calls and all(call.name in turn.tools for call in calls):
        yield from emitted(calls)
    else:
        yield content(text)
    return True
