"""Functionary 3.1 and 3.2, and GLM-4: a function's name, then its arguments as JSON."""

from __future__ import annotations

from engine.api import ToolCall
from engine.chat.output.format import Format, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.json_calls import as_arguments, parse, read_arguments, read_object
from engine.chat.output.reasoning import read_blocks
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.toolset import ToolSet

RECIPIENT = ">>>"
FUNCTION, END_FUNCTION = "<function=", "</function>"


def read_functionary(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Functionary 3.2: a text `>>>all` or calls `>>>f`. The prompt ends with the first `>>>`."""
    yield from buffer.accept(RECIPIENT)
    tag = RECIPIENT
    while tag:
        if not (yield from buffer.accept("all\n")):
            yield from _read_named(buffer, context)
        tag = yield from buffer.emit_until(content, RECIPIENT, trim=True)


def read_glm4(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of GLM-4: a call or content."""
    yield from buffer.accept("\n")
    yield from _read_named(buffer, context)
    yield from buffer.emit_until(content)


def _parse_tag(body: str, tools: ToolSet) -> list[ToolCall]:
    name, _, arguments = body.partition(">")
    return [ToolCall(name, as_arguments(arguments.strip()))]


read_function_tags = read_blocks(FUNCTION, END_FUNCTION, _parse_tag, trim=True, unclosed=False)
"""Reads the content of an answer of Functionary 3.1: `<function=f>{…}</function>`."""


def _read_named(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Emit a call if the text begins with a line that is the name of a tool."""
    if not (head := (yield from buffer.accept(*(f"{name}\n" for name in context.tools.names)))):
        return
    head += yield from buffer.skip_space()
    brace = yield from buffer.accept("{")
    buffer.push_back(brace)
    announced, body = buffer.held and bool(brace), ""
    if announced:
        body = yield from read_arguments(buffer, head.rstrip())
    elif brace:
        body, _ = yield from read_object(buffer, RECIPIENT)
    try:
        yield from emitted([ToolCall(head.rstrip(), as_arguments(parse(body)))])
    except Unreadable:
        if not announced:  # else the answer ends within it
            yield content(head + body)


FUNCTIONARY = Format(
    read_functionary, FormatSpec(content="all\n", calls=ToolCallSpec("", "\n", "", separator=RECIPIENT))
)
FUNCTION_TAGS = Format(
    read_function_tags,
    FormatSpec(calls=ToolCallSpec(FUNCTION, ">", END_FUNCTION, separator="", reserved=(END_FUNCTION,))),
)
GLM4 = Format(read_glm4, FormatSpec(calls=ToolCallSpec("", "\n", "")))
