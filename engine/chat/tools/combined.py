"""Readers made of readers: reasoning first, calls only where there are tools."""

from __future__ import annotations

from engine.chat.tape import Script, Tape, content
from engine.chat.thinking import read_thinking
from engine.chat.tools.format import Reader, Turn


def read_content(tape: Tape, turn: Turn) -> Script[None]:
    """Everything is content."""
    yield from tape.pour(content)


def with_tools(read: Reader) -> Reader:
    """A reader that looks for calls only when the request has tools."""

    def read_if_tools(tape: Tape, turn: Turn) -> Script[None]:
        yield from (read if turn.tools else read_content)(tape, turn)

    return read_if_tools


def after_thinking(read: Reader, opening: str, closing: str, *, ask: bool) -> Reader:
    """A reader with a block of reasoning before it, which the prompt may have opened.

    `ask`: the block is left in the content unless reasoning was asked for.
    """

    def read_both(tape: Tape, turn: Turn) -> Script[None]:
        if turn.think or not ask:
            yield from read_thinking(tape, opening, closing, turn.opened(opening))
        yield from read(tape, turn)

    return read_both
