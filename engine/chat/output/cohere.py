"""Cohere's answers, all of them in blocks: reasoning, text, or an action, which is an array of calls."""

from __future__ import annotations

from dataclasses import replace

from engine.chat.output.format import LINE, NUMBER, CallShape, Shape, Turn
from engine.chat.output.stream import Script, Tape, content, thought
from engine.chat.output.tagged_json import TaggedJSON

THINKING, END_THINKING = "<|START_THINKING|>", "<|END_THINKING|>"
TEXT, END_TEXT = "<|START_TEXT|>", "<|END_TEXT|>"
RESPONSE, END_RESPONSE = "<|START_RESPONSE|>", "<|END_RESPONSE|>"
ACTION, END_ACTION = "<|START_ACTION|>", "<|END_ACTION|>"
END_OF_TURN = "<|END_OF_TURN_TOKEN|>"
PRESERVED = (THINKING, END_THINKING, TEXT, END_TEXT, ACTION, END_ACTION, RESPONSE, END_RESPONSE)

SHAPE = Shape(
    (THINKING, END_THINKING),
    TEXT,
    CallShape(
        f'{{"tool_call_id": "{NUMBER}", "tool_name": "',
        '", "parameters": ',
        "}",
        f"{ACTION}[\n{LINE}    ",
        f"\n{LINE}]{END_ACTION}",
        f",\n{LINE}    ",
    ),
)
SHAPE_RESPONSE = replace(SHAPE, content=RESPONSE)

_CALLS = TaggedJSON(ACTION, END_ACTION)


def read_cohere(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer. The renderer's prompt opens the reasoning, or a text that is continued."""
    if turn.continues:
        yield from _read_text(tape)
    elif turn.think:
        yield from _read_thinking(tape)
    yield from _read_blocks(tape, turn)


def read_command(tape: Tape, turn: Turn) -> Script[None]:
    """Read an answer behind the model's own template, whose prompt may have opened any block."""
    if turn.opened(THINKING):
        yield from _read_thinking(tape)
    elif turn.opened(TEXT) or turn.opened(RESPONSE):
        yield from _read_text(tape)
    yield from _read_blocks(tape, turn)


def _read_blocks(tape: Tape, turn: Turn) -> Script[None]:
    while True:
        tag = yield from tape.accept(THINKING, TEXT, RESPONSE, ACTION, END_OF_TURN, after_space=True)
        if tag == THINKING:
            yield from _read_thinking(tape)
        elif tag == ACTION:
            yield from _CALLS.read_block(tape, turn.tools)
        elif tag in (TEXT, RESPONSE):
            yield from _read_text(tape)
        elif not tag:
            yield from tape.skip_space()
            if not tape.text:
                return
            yield from _read_text(tape)


def _read_thinking(tape: Tape) -> Script[None]:
    """Emit a block of reasoning; the model may repeat the tag that the prompt has opened it with."""
    yield from tape.accept(THINKING, after_space=True)
    yield from tape.pour(thought, END_THINKING, trim=True)


def _read_text(tape: Tape) -> Script[None]:
    if (yield from tape.pour(content, END_TEXT, END_RESPONSE, END_OF_TURN, ACTION)) == ACTION:
        tape.unread(ACTION)
