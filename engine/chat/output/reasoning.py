"""Reasoning between two tags at the start of an answer, for formats that have no parser of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.chat.output.format import Format, ParseContext, Reader
from engine.chat.output.stream import ParserCoroutine, StreamParser, TextBuffer, content, reasoning


class ThinkingSplitter(StreamParser):
    """Splits an answer into thinking and content; both routes, Go template and Jinja, read it alike.

    One block counts, and only at the start: after the first text outside of it everything is content. Whitespace
    before and after each tag goes with the tag, except that before the closing one, which is thinking. A block that
    the answer does not close is thinking to the end. `opened`: the prompt already ends with the opening tag.
    """

    def __init__(self, opening: str = "<think>", closing: str = "</think>", *, opened: bool = False) -> None:
        super().__init__(lambda buffer: _split(buffer, opening, closing, opened))


def read_thinking(buffer: TextBuffer, opening: str, closing: str, opened: bool) -> ParserCoroutine[None]:
    """Emit the block at the start of an answer, if there is one, and stop where the content begins."""
    if not opened and not (yield from buffer.accept(opening, after_space=True)):
        return
    yield from buffer.skip_space()
    yield from buffer.emit_until(reasoning, closing)
    yield from buffer.skip_space()


def read_opened_thinking(
    buffer: TextBuffer, *interrupts: str, opening: str = "<think>", closing: str = "</think>", strip: bool = False
) -> ParserCoroutine[None]:
    """Emit a block that the prompt has opened, and stop where the content begins.

    The model may repeat the opening tag. One of the `interrupts`, which belong to the content, ends the block too.
    Whitespace before the closing tag is dropped, after the opening one with `strip`.
    """
    yield from buffer.accept(opening, after_space=True)
    if strip:
        yield from buffer.skip_space()
    end = yield from buffer.emit_until(reasoning, closing, *interrupts, trim=True)
    if end == closing:
        yield from buffer.skip_space()
    else:
        buffer.push_back(end)


def _split(buffer: TextBuffer, opening: str, closing: str, opened: bool) -> ParserCoroutine[None]:
    yield from read_thinking(buffer, opening, closing, opened)
    yield from buffer.emit_until(content)


# Readers made of readers: calls only where there are tools, reasoning first.


def read_content(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Everything is content."""
    yield from buffer.emit_until(content)


def with_tools(read: Reader) -> Reader:
    """A reader that looks for calls only when the request has tools."""

    def read_if_tools(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        yield from (read if turn.tools else read_content)(buffer, turn)

    return read_if_tools


def after_thinking(format: Format, *tags: str, asks: bool) -> Format:
    """A format with a block of reasoning before its content, which the prompt may have opened.

    `asks`: the block is left in the content unless reasoning was asked for.
    """
    opening, closing = tags

    def read_both(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        if turn.think or not asks:
            yield from read_thinking(buffer, opening, closing, turn.opened(opening))
        yield from format.read(buffer, turn)

    spec = replace(format.spec, thinking=(opening, closing), asks=asks)
    return replace(format, read=read_both, spec=spec, thinking=True)


def after_opened_thinking(
    format: Format, begins: Callable[[ParseContext], bool], *interrupts: str, strip: bool = False
) -> Format:
    """A format with reasoning before its content in the turns where it `begins`: the prompt opens the block.

    The others are as in `read_opened_thinking`.
    """

    def read_both(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
        if begins(turn):
            yield from read_opened_thinking(buffer, *interrupts, strip=strip)
        yield from format.read(buffer, turn)

    spec = replace(format.spec, thinking=("<think>", "</think>"), begins=begins)
    return replace(format, read=read_both, spec=spec, thinking=True)
