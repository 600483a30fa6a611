"""Gemma 4 and FunctionGemma: calls `call:f{k:v}` between tags, strings between quotes of Gemma's own."""

from __future__ import annotations

from dataclasses import replace

from engine.api import ToolCall
from engine.chat.output.format import ArgumentSpec, Format, FormatSpec, ParseContext, ToolCallSpec, Values
from engine.chat.output.reasoning import read_blocks
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, discard, emitted, reasoning
from engine.chat.output.values import NAME, Literals

CHANNEL, END_CHANNEL = "<|channel>", "<channel|>"
CALL, END_CALL, RESPONSE = "<|tool_call>", "<tool_call|>", "<|tool_response>"
QUOTE = '<|"|>'
FUNCTION_CALL, END_FUNCTION_CALL, ESCAPE = "<start_function_call>", "<end_function_call>", "<escape>"


def _calls(opening: str, closing: str, quote: str, *reserved: str) -> ToolCallSpec:
    arguments = ArgumentSpec("", ":", separator=",", values=Values.QUOTED, quote=quote, names=NAME)
    return ToolCallSpec(
        f"{opening}call:",
        "{",
        f"}}{closing}",
        separator="",
        arguments=arguments,
        reserved=(quote, *reserved),
        names=NAME,
        tag=opening,
    )


def read_gemma4(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Gemma 4; its reasoning is dropped unless the request asks for it."""
    if context.opened(f"{CHANNEL}thought"):
        buffer.push_back(CHANNEL)
    while tag := (yield from buffer.emit_until(content, CHANNEL, CALL)):
        if tag == CALL:
            yield from _read_call(buffer)
        else:
            yield from buffer.accept("thought\n")
            yield from buffer.emit_until(reasoning if context.think else discard, END_CHANNEL, trim=True)
            yield from buffer.skip_space()


def read_gemma4_silent(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Gemma 4 without reasoning; the model may write some, which is dropped."""
    yield from read_gemma4(buffer, replace(context, think=False))


def _read_call(buffer: TextBuffer) -> ParserCoroutine[None]:
    """Emit one call of Gemma 4, or its text as content. The opening tag is consumed; the closing one may be missing."""
    body, end = yield from buffer.read_until(END_CALL, CALL, RESPONSE, keep=True)
    while end and body.count(QUOTE) % 2:  # the tag is in a string
        body += buffer.take(len(end))
        more, end = yield from buffer.read_until(END_CALL, CALL, RESPONSE, keep=True)
        body += more
    if not end and END_CALL in body:  # it was not: the string has no end
        body, end, rest = body.partition(END_CALL)
        buffer.push_back(end + rest)
    for text in (body, _repaired(body)) if end else (body,):
        try:
            yield from emitted([_read(text, QUOTE)])
        except Unreadable:
            continue
        yield from _skip_noise(buffer)
        return
    yield content(CALL + body)


def _skip_noise(buffer: TextBuffer) -> ParserCoroutine[None]:
    """Consume closing tags behind a call, which may be repeated, and opening tags of made-up results."""
    while (yield from buffer.accept(END_CALL, RESPONSE, after_space=True)):
        pass
    yield from buffer.skip_space()


def _read(text: str, quote: str) -> ToolCall:
    reader = Literals(text, quotes=(quote,))
    if not reader.accept("call:"):
        raise Unreadable("no call")
    name = reader.name()
    if not reader.accept("{"):
        raise Unreadable("no arguments")
    return ToolCall(name, reader.pairs(":", "}"))


def _repaired(text: str) -> str:
    """The text of a call with its last string and object closed."""
    text = text.rstrip()
    if text.count(QUOTE) % 2:
        inside = text.rstrip("}")
        return inside + QUOTE + (text[len(inside) :] or "}")
    return text if text.endswith("}") else text + "}"


read_function_gemma = read_blocks(FUNCTION_CALL, END_FUNCTION_CALL, lambda body, tools: [_read(body, ESCAPE)])
"""Reads an answer of FunctionGemma."""

FUNCTION_GEMMA = Format(
    read_function_gemma,
    FormatSpec(calls=_calls(FUNCTION_CALL, END_FUNCTION_CALL, ESCAPE, END_FUNCTION_CALL)),
    (FUNCTION_CALL, END_FUNCTION_CALL),
)
GEMMA4 = Format(
    read_gemma4,
    FormatSpec((f"{CHANNEL}thought\n", END_CHANNEL), calls=_calls(CALL, END_CALL, QUOTE)),
    (CHANNEL, END_CHANNEL, CALL, END_CALL, RESPONSE, QUOTE),
    thinking=True,
)
GEMMA4_SILENT = Format(read_gemma4_silent, FormatSpec(calls=GEMMA4.spec.calls), GEMMA4.preserved)
