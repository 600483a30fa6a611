"""Calls in Python's notation, `[f(a=1, b="x"), g()]`: Llama 4 and 3, LFM2, OLMo 3."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.api import ToolCall
from engine.chat.output.format import (
    BLANK,
    ArgumentSpec,
    Format,
    FormatSpec,
    ParseContext,
    ToolCallSpec,
    Values,
    json_call,
)
from engine.chat.output.reasoning import read_blocks
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.tagged_json import tagged
from engine.chat.output.values import NAME, Literals


def python_calls(text: str, *, cut: bool = False) -> list[ToolCall]:
    """The calls in a list, or one after another; `cut`: without what is incomplete at the end.

    Raises Unreadable for any other text.
    """
    reader = Literals(text)
    listed = reader.accept("[")
    calls: list[ToolCall] = []
    while not reader.ended and not (listed and reader.accept("]")):
        try:
            calls.append(_call(reader))
        except Unreadable:
            if cut:
                return calls
            raise
        reader.accept(",", ";")
    if not calls or not (cut or reader.ended):
        raise Unreadable("no call")
    return calls


def _call(reader: Literals) -> ToolCall:
    name = reader.name()
    if not reader.accept("("):
        raise Unreadable(f"no ( after {name}")
    return ToolCall(name, reader.pairs("=", ")"))


@dataclass(frozen=True, slots=True)
class TaggedPython:
    """Calls between two tags, declared once for the reader and, by `spec`, for the grammar.

    `listed`: the calls are in brackets, else on lines. A block that cannot be read becomes content. `trim_after`:
    whitespace behind a block is dropped.
    """

    opening: str
    closing: str
    listed: bool = True
    trim_after: bool = False

    @property
    def spec(self) -> ToolCallSpec:
        """How calls are written."""
        before, after, separator = ("[", "]", f",{BLANK}") if self.listed else ("", "", "\n")
        arguments = ArgumentSpec("", "=", separator=f",{BLANK}", values=Values.JSON, names=NAME)
        reserved = tuple(filter(None, (self.closing,)))
        calls = ToolCallSpec("", "(", ")", before, after, separator, arguments=arguments, reserved=reserved, names=NAME)
        return replace(calls.around(self.opening, self.closing), tag=self.opening)

    @property
    def format(self) -> Format:
        """Answers of content and such calls."""
        read = read_blocks(
            self.opening,
            self.closing,
            lambda body, tools: python_calls(body),
            parse_cut=lambda body, tools: python_calls(body, cut=True),
            trim_after=self.trim_after,
        )
        return Format(read, FormatSpec(calls=self.spec), (self.opening, self.closing))


OLMO = TaggedPython("<function_calls>", "</function_calls>", listed=False)
"""OLMo 3."""

LFM = TaggedPython("<|tool_call_start|>", "<|tool_call_end|>", trim_after=True)
_TAGGED_LFM = LFM.format


def read_lfm(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer of LFM2, which sometimes forgets its tags."""
    if not (yield from _read_bare(buffer, context)):
        yield from _TAGGED_LFM.read(buffer, context)


def read_bare_python(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Llama 4: calls or content."""
    if not (yield from _read_bare(buffer, context)):
        yield from buffer.emit_until(content)


def _read_bare(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[bool]:
    """Read a whole answer that begins like a call of a known tool; return False and read nothing if it does not."""
    space = yield from buffer.skip_space()
    start = yield from buffer.accept(*(f"{bracket}{name}(" for name in context.tools.names for bracket in ("[", "")))
    buffer.push_back(space + start)
    if not start:
        return False
    text, _ = yield from buffer.read_until(keep=True)
    try:
        calls = python_calls(text, cut=buffer.held)
    except Unreadable:
        calls = []
    if calls and all(call.name in context.tools for call in calls):
        yield from emitted(calls)
    else:
        yield content(text)
    return True


LFM2 = replace(_TAGGED_LFM, read=read_lfm)
LLAMA4 = Format(read_bare_python, FormatSpec(calls=TaggedPython("", "").spec))


# Llama 3.1 and later: a call is the whole answer, an object of JSON, perhaps behind `<|python_tag|>`.

PYTHON = "<|python_tag|>"
_read_json = tagged("{")


def read_llama(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Llama 3. Calls of built-in tools look like `brave_search.call(query="x")`."""
    if (yield from buffer.accept(PYTHON, after_space=True)) and not (yield from _begins_with_brace(buffer)):
        yield from _read_built_in(buffer)
    else:
        yield from _read_json(buffer, context)


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


LLAMA3 = Format(read_llama, FormatSpec(calls=json_call(arguments="parameters")), (PYTHON,))
