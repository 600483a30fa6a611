"""Laguna: reasoning in blocks that may come again in the content, calls in GLM's markup or JSON."""

from __future__ import annotations

from engine.chat.output.format import Turn
from engine.chat.output.markup import ARGUMENT_TAGS, GLM
from engine.chat.output.reasoning import read_opened_thinking
from engine.chat.output.stream import Script, Tape, content, nothing, thought

THINK, END_THINK = "<think>", "</think>"
PRESERVED = (
    *(THINK, END_THINK, "<tool_call>", "</tool_call>", "<user>", "</user>"),
    *ARGUMENT_TAGS,
)


def thinks(turn: Turn) -> bool:
    """Whether an answer of Laguna begins with reasoning."""
    return turn.think and not (turn.last is not None and turn.last.role == "assistant")


def read_laguna(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer; one that continues an assistant's message begins with content."""
    yield from _read(tape, turn, thinks=thinks(turn))


def read_poolside(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer; its renderer closes an assistant's last message and begins a new one."""
    yield from _read(tape, turn, thinks=turn.think)


def _read(tape: Tape, turn: Turn, thinks: bool) -> Script[None]:
    if thinks:
        yield from read_opened_thinking(tape, GLM.opening, strip=True)
    yield from tape.accept(END_THINK, after_space=True)  # the prompt has closed the block already
    yield from tape.skip_space()
    while tag := (yield from tape.pour(content, THINK, GLM.opening, trim=True)):
        if tag == THINK:
            yield from tape.skip_space()
            end = yield from tape.pour(thought if turn.think else nothing, END_THINK, GLM.opening, trim=True)
            tape.unread(end.removeprefix(END_THINK))
        else:
            yield from GLM.read_block(tape, turn.tools)
        yield from tape.skip_space()
