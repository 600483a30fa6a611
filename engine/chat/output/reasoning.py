"""Reasoning between two tags at the start of an answer, and readers made of readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.api import ToolCall
from engine.chat.output.format import Format, ParseContext, Reader
from engine.chat.output.stream import ParserCoroutine, StreamParser, TextBuffer, Unreadable, content, emitted, reasoning
from engine.chat.output.toolset import ToolSet


class ThinkingSplitter(StreamParser):
    """Splits an answer into reasoning and content.

    One block counts, and only at the start: after the first text outside of it everything is content. Whitespace around
    a tag belongs to the tag, but before the closing tag it is reasoning. A block without an end is reasoning to the end
    of the answer. `opened`: the prompt already ends with the opening tag.
    """

    def __init__(self, opening: str = "<think>", closing: str = "</think>", *, opened: bool = False) -> None:
        super().__init__(lambda buffer: _split(buffer, opening, closing, opened))


def read_thinking(buffer: TextBuffer, opening: str, closing: str, opened: bool) -> ParserCoroutine[None]:
    """Emit the block of reasoning at the start of an answer, if there is one; stop where the content begins."""
    if not opened and not (yield from buffer.accept(opening, after_space=True)):
        return
    yield from buffer.skip_space()
    yield from buffer.emit_until(reasoning, closing)
    yield from buffer.skip_space()


def read_opened_thinking(
    buffer: TextBuffer, *interrupts: str, opening: str = "<think>", closing: str = "</think>", strip: bool = False
) -> ParserCoroutine[None]:
    """Emit a block of reasoning that the prompt has opened; stop where the content begins.

    The model may repeat the opening tag. One of the `interrupts`, which belong to the content, ends the block too.
    Whitespace before the closing tag is dropped; after the opening tag only with `strip`.
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


def read_content(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Everything is content."""
    yield from buffer.emit_until(content)


def read_blocks(
    opening: str,
    closing: str,
    parse: Callable[[str, ToolSet], list[ToolCall]],
    *,
    parse_cut: Callable[[str, ToolSet], list[ToolCall]] | None = None,
    trim: bool = False,
    trim_after: bool = False,
    unclosed: bool = True,
) -> Reader:
    """A reader of content with calls in blocks between two tags, each block parsed as a whole.

    A block becomes content if `parse` raises Unreadable or finds no call in it or, without `unclosed`, if the answer
    ends inside of it. `parse_cut` finds the complete calls of a block that is held and that the answer's end cuts; it
    is needed where a block may have several. `trim`: whitespace before a block is dropped, `trim_after` behind it.
    """

    def read(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        while (yield from buffer.emit_until(content, opening, trim=trim)):
            body, end = yield from buffer.read_until(closing)
            try:
                if parse_cut is not None and buffer.held and not end:
                    calls = parse_cut(body, context.tools)
                else:
                    calls = parse(body, context.tools) if end or unclosed else []
            except Unreadable:
                calls = []
            yield from emitted(calls)
            if not calls:
                yield content(opening + body + end)
            if trim_after:
                yield from buffer.skip_space()

    return read


def with_tools(read: Reader) -> Reader:
    """A reader that looks for calls only when the request has tools."""

    def read_if_tools(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        yield from (read if context.tools else read_content)(buffer, context)

    return read_if_tools


def after_thinking(answer_format: Format, *tags: str, only_if_asked: bool) -> Format:
    """The format with a block of reasoning before its content, which the prompt may have opened.

    `only_if_asked`: without a request for reasoning the block stays in the content.
    """
    opening, closing = tags

    def read_both(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        if context.think or not only_if_asked:
            yield from read_thinking(buffer, opening, closing, context.opened(opening))
        yield from answer_format.read(buffer, context)

    spec = replace(answer_format.spec, thinking=(opening, closing), only_if_asked=only_if_asked)
    return replace(answer_format, read=read_both, spec=spec, thinking=True)


def after_opened_thinking(
    answer_format: Format, begins: Callable[[ParseContext], bool], *interrupts: str, strip: bool = False
) -> Format:
    """The format with a block of reasoning that the prompt opens, for requests where `begins` is true.

    `interrupts` and `strip` as in `read_opened_thinking`.
    """

    def read_both(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        if begins(context):
            yield from read_opened_thinking(buffer, *interrupts, strip=strip)
        yield from answer_format.read(buffer, context)

    spec = replace(answer_format.spec, thinking=("<think>", "</think>"), begins=begins)
    return replace(answer_format, read=read_both, spec=spec, thinking=True)
