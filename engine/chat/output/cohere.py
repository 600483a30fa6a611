"""Cohere's Command models: an answer is made of blocks, each of reasoning, text or an action (an array of calls)."""

from __future__ import annotations

from dataclasses import replace

from engine.chat.output.format import LINE, NUMBER, Format, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.stream import ParserCoroutine, TextBuffer, content, reasoning
from engine.chat.output.tagged_json import TaggedJSON

THINKING, END_THINKING = "<|START_THINKING|>", "<|END_THINKING|>"
TEXT, END_TEXT = "<|START_TEXT|>", "<|END_TEXT|>"
RESPONSE, END_RESPONSE = "<|START_RESPONSE|>", "<|END_RESPONSE|>"
ACTION, END_ACTION = "<|START_ACTION|>", "<|END_ACTION|>"
END_OF_TURN = "<|END_OF_TURN_TOKEN|>"
PRESERVED = (THINKING, END_THINKING, TEXT, END_TEXT, ACTION, END_ACTION, RESPONSE, END_RESPONSE)

_CALLS = TaggedJSON(
    ACTION,
    END_ACTION,
    ToolCallSpec(
        f'{{"tool_call_id": "{NUMBER}", "tool_name": "',
        '", "parameters": ',
        "}",
        f"[\n{LINE}    ",
        f"\n{LINE}]",
        f",\n{LINE}    ",
    ),
)


def read_cohere(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer to the named renderer's prompt, which opens a block of reasoning or continues a text."""
    if context.continues:
        yield from _read_text(buffer)
    elif context.think:
        yield from _read_thinking(buffer)
    yield from _read_blocks(buffer, context)


def read_command(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer to the prompt of the model's own template, which may have opened any block."""
    if context.opened(THINKING):
        yield from _read_thinking(buffer)
    elif context.opened(TEXT) or context.opened(RESPONSE):
        yield from _read_text(buffer)
    yield from _read_blocks(buffer, context)


def _read_blocks(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    while True:
        tag = yield from buffer.accept(THINKING, TEXT, RESPONSE, ACTION, END_OF_TURN, after_space=True)
        if tag == THINKING:
            yield from _read_thinking(buffer)
        elif tag == ACTION:
            yield from _CALLS.read_block(buffer, context.tools)
        elif tag in (TEXT, RESPONSE):
            yield from _read_text(buffer)
        elif not tag:
            yield from buffer.skip_space()
            if not buffer.text:
                return
            yield from _read_text(buffer)


def _read_thinking(buffer: TextBuffer) -> ParserCoroutine[None]:
    """Emit a block of reasoning; the model may repeat an opening tag that the prompt ends with."""
    yield from buffer.accept(THINKING, after_space=True)
    yield from buffer.emit_until(reasoning, END_THINKING, trim=True)


def _read_text(buffer: TextBuffer) -> ParserCoroutine[None]:
    if (yield from buffer.emit_until(content, END_TEXT, END_RESPONSE, END_OF_TURN, ACTION)) == ACTION:
        buffer.push_back(ACTION)


COMMAND = Format(read_command, FormatSpec((THINKING, END_THINKING), TEXT, _CALLS.spec), PRESERVED, thinking=True)
COMMAND_RESPONSE = replace(COMMAND, spec=replace(COMMAND.spec, content=RESPONSE))
