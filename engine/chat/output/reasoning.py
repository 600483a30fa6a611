"""Reasoning between two tags at the start of an answer, for formats that have no parser of their own."""

from __future__ import annotations

from engine.chat.output.format import Reader, Turn
from engine.chat.output.stream import Machine, Script, Tape, content, thought


class ThinkingSplitter(Machine):
    """Splits an answer into thinking and content; both routes, Go template and Jinja, read it alike.

    One block counts, and only at the start: after the first text outside of it everything is content. Whitespace
    before and after each tag goes with the tag, except that before the closing one, which is thinking. A block that
    the answer does not close is thinking to the end. `opened`: the prompt already ends with the opening tag.
    """

    def __init__(self, opening: str = "<think>", closing: str = "</think>", *, opened: bool = False) -> None:
        super().__init__(lambda tape: _split(tape, opening, closing, opened))


def read_thinking(tape: Tape, opening: str, closing: str, opened: bool) -> Script[None]:
    """Emit the block at the start of an answer, if there is one, and stop where the content begins."""
    if not opened and not (yield from tape.accept(opening, after_space=True)):
        return
    yield from tape.skip_space()
    yield from tape.pour(thought, closing)
    yield from tape.skip_space()


def read_opened_thinking(
    tape: Tape, *interrupts: str, opening: str = "<think>", closing: str = "</think>", strip: bool = False
) -> Script[None]:
    """Emit a block that the prompt has opened, and stop where the content begins.

    The model may repeat the opening tag. One of the `interrupts`, which belong to the content, ends the block too.
    Whitespace before the closing tag is dropped, after the opening one with `strip`.
    """
    yield from tape.accept(opening, after_space=True)
    if strip:
        yield from tape.skip_space()
    end = yield from tape.pour(thought, closing, *interrupts, trim=True)
    if end == closing:
        yield from tape.skip_space()
    else:
        tape.unread(end)


def _split(tape: Tape, opening: str, closing: str, opened: bool) -> Script[None]:
    yield from read_thinking(tape, opening, closing, opened)
    yield from tape.pour(content)


# Readers made of readers: reasoning first, calls only where there are tools.


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
