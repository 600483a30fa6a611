"""Muse Glimmer: messages with a recipient in their header, tool calls as ATEM markup."""

from __future__ import annotations

from dataclasses import replace

from engine.chat.output.format import NAME, Format, FormatSpec, ParseContext
from engine.chat.output.markup import ATEM
from engine.chat.output.stream import MalformedCall, ParserCoroutine, TextBuffer, content, discard, emitted, reasoning
from engine.chat.output.toolset import ToolSet

START, MESSAGE, END_MESSAGE, END_TURN = "<|start|>", "<|message|>", "<|eom|>", "<|eot|>"
_ASSISTANT = f"{START}assistant"
_CALLS = replace(
    ATEM.spec,
    opening=" to=",
    middle=f"{MESSAGE}{ATEM.spec.opening}{NAME}{ATEM.spec.middle}",
    separator=f"{END_MESSAGE}{_ASSISTANT}",
    reserved=(*ATEM.reserved, END_MESSAGE, END_TURN, _ASSISTANT),
    strips_leading_space=False,
    tag="",
)
_SPEC = FormatSpec((f" to=self{MESSAGE}", f"{END_MESSAGE}{_ASSISTANT}"), f" to=user{MESSAGE}", _CALLS)
_ENDS = (END_MESSAGE, END_TURN, _ASSISTANT)


def read_glimmer(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer to a prompt that ends with `<|start|>assistant`. Raises MalformedCall."""
    originals = {alias: name for name in context.tools.names for alias in (name, _in_namespace(name))}
    tools = context.tools.aliased(originals)
    if _in_text(context):
        yield from _read_text(buffer, tools)
    while True:
        yield from buffer.accept(_ASSISTANT)
        header, tag = yield from buffer.read_until(MESSAGE)
        if not tag:
            break
        recipient = header.strip().removeprefix("to=").strip()
        if recipient == "self":
            yield from buffer.emit_until(reasoning if context.think else discard, *_ENDS)
        elif recipient in originals:
            yield from _read_call(buffer, originals[recipient], tools)
        else:
            yield from _read_text(buffer, tools)
    yield content(header)


def _in_text(context: ParseContext) -> bool:
    """Whether the prompt ends in the middle of a message to the user."""
    _, separator, text = context.prompt.rpartition(_ASSISTANT)[2].partition(MESSAGE)
    return bool(context.continues and separator) and not any(end in text for end in _ENDS)


def _in_namespace(name: str) -> str:
    """The name with the namespace that the template adds to it."""
    return f"{name.partition('.')[0]}.{name}"


def _read_call(buffer: TextBuffer, name: str, tools: ToolSet) -> ParserCoroutine[None]:
    body, end = yield from buffer.read_until(*_ENDS)
    if buffer.held and not end:
        calls = ATEM.complete_calls(body, tools)
    else:
        whole = end or body.rstrip().endswith((ATEM.last, ATEM.closing))
        calls = ATEM.calls(body, tools) if whole else []
    if not calls and end:
        raise MalformedCall(f"parse Glimmer call to {name}: missing ATEM function_calls wrapper")
    yield from emitted(replace(call, name=name) for call in calls)
    if not calls:
        yield content(body)


def _read_text(buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[None]:
    """Emit a message to the user, which may hold calls by mistake."""
    if tools and (yield from buffer.accept(ATEM.opening, after_space=True)):
        yield from ATEM.read_block(buffer, tools)
    yield from buffer.emit_until(content, *_ENDS)


GLIMMER = Format(read_glimmer, _SPEC, (START, MESSAGE, END_MESSAGE, END_TURN), thinking=True)
