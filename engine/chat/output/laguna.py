"""Laguna: reasoning in blocks that may come again in the content, calls in GLM's markup or JSON."""

from __future__ import annotations

from engine.chat.output.format import ParseContext
from engine.chat.output.markup import ARGUMENT_TAGS, GLM
from engine.chat.output.reasoning import read_opened_thinking
from engine.chat.output.stream import ParserCoroutine, TextBuffer, content, discard, reasoning

THINK, END_THINK = "<think>", "</think>"
PRESERVED = (
    *(THINK, END_THINK, "<tool_call>", "</tool_call>", "<user>", "</user>"),
    *ARGUMENT_TAGS,
)


def thinks(turn: ParseContext) -> bool:
    """Whether an answer of Laguna begins with reasoning."""
    return turn.think and not (turn.last is not None and turn.last.role == "assistant")


def read_laguna(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer; one that continues an assistant's message begins with content."""
    yield from _read(buffer, turn, thinks=thinks(turn))


def read_poolside(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer; its renderer closes an assistant's last message and begins a new one."""
    yield from _read(buffer, turn, thinks=turn.think)


def _read(buffer: TextBuffer, turn: ParseContext, thinks: bool) -> ParserCoroutine[None]:
    if thinks:
        yield from read_opened_thinking(buffer, GLM.opening, strip=True)
    yield from buffer.accept(END_THINK, after_space=True)  # the prompt has closed the block already
    yield from buffer.skip_space()
    while tag := (yield from buffer.emit_until(content, THINK, GLM.opening, trim=True)):
        if tag == THINK:
            yield from buffer.skip_space()
            end = yield from buffer.emit_until(reasoning if turn.think else discard, END_THINK, GLM.opening, trim=True)
            buffer.push_back(end.removeprefix(END_THINK))
        else:
            yield from GLM.read_block(buffer, turn.tools)
        yield from buffer.skip_space()
