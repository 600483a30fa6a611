"""Lists of tool calls between special tokens: DeepSeek, Kimi K2, Solar Open."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.api import ToolCall
from engine.chat.output.format import NUMBER, Format, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.json_calls import as_arguments, parse, read_arguments
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted, reasoning


@dataclass(frozen=True, slots=True)
class DelimitedCalls:
    """A list format, declared once for the reader and, by `spec`, for the grammar.

    `calls` and `end_calls` stand around the list, `call` and `end_call` around each call. `inside` tells how a call is
    written between those tokens, `read` parses it or raises Unreadable.
    """

    calls: str
    end_calls: str
    call: str
    end_call: str
    inside: ToolCallSpec
    read: Callable[[str], ToolCall]

    @property
    def spec(self) -> ToolCallSpec:
        """How calls are written."""
        return replace(self.inside.within(self.call, self.end_call).around(self.calls, self.end_calls), tag=self.calls)

    def read_list(self, buffer: TextBuffer, opening: str) -> ParserCoroutine[None]:
        """Emit the calls of a list. Its first token, `opening`, is consumed: the list's or the first call's."""
        space = ""
        if opening == self.calls:
            space = yield from buffer.skip_space()
            opening += yield from buffer.accept(self.call)
        if not opening.endswith(self.call):
            yield content(opening + space)
            return
        tag = self.call
        while tag == self.call:
            yield from self._read_call(buffer)
            space = yield from buffer.skip_space()
            tag = yield from buffer.accept(self.call, self.end_calls)
        if not tag:
            buffer.push_back(space)

    def _read_call(self, buffer: TextBuffer) -> ParserCoroutine[None]:
        """Emit one call, or its text as content if it cannot be read. The closing token may be missing."""
        ends = (self.end_call, self.call, self.end_calls)
        begun = (yield from self._read_arguments(buffer)) if buffer.held else ""
        body, _ = yield from buffer.read_until(*ends, keep=True)
        end = yield from buffer.accept(self.end_call)
        try:
            yield from emitted([self.read(begun or body)])
        except Unreadable:
            if not begun:  # else the answer ends within it
                yield content(self.call + body + end)

    def _read_arguments(self, buffer: TextBuffer) -> ParserCoroutine[str]:
        """Consume a call that is held up to the end of its arguments, which are emitted as they arrive; return it."""
        head, brace = yield from buffer.read_until("{", keep=True)
        try:
            call = self.read(head + "{}" if brace else "")
        except Unreadable:  # the answer ends within the head, or that is none
            buffer.push_back(head)
            return ""
        return head + (yield from read_arguments(buffer, call.name, call.id))


# DeepSeek: `f<｜tool▁sep｜>{…}`, or `function<｜tool▁sep｜>f` and the JSON in a code fence.

_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")
_SEPARATOR = "<｜tool▁sep｜>"
_OUTPUT, _END_OUTPUT = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
OUTPUTS, END_OUTPUTS = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"


def read_deepseek(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer. A made-up tool result loses its tags; a list of such results is dropped."""
    calls = (_PLAIN.calls, _PLAIN.call)
    while tag := (yield from buffer.emit_until(content, *calls, _OUTPUT, _END_OUTPUT, OUTPUTS)):
        if tag == OUTPUTS:
            yield from buffer.read_until(END_OUTPUTS)
        elif tag in calls:
            yield from _PLAIN.read_list(buffer, tag)


def _read_deepseek_call(body: str) -> ToolCall:
    head, _, rest = body.partition(_SEPARATOR)
    before, brace, _ = rest.partition("{")
    if not brace:
        raise Unreadable("no arguments")
    name = before.replace("```json", "").replace("```", "").strip() or head.strip()
    return ToolCall(name, as_arguments(parse(rest[len(before) : rest.rfind("}") + 1])))


_RESERVED = ("<｜tool▁call",)
_PLAIN = DelimitedCalls(
    *_DEEPSEEK, ToolCallSpec("", _SEPARATOR, "", separator="", reserved=_RESERVED), _read_deepseek_call
)
_FENCED = replace(
    _PLAIN,
    inside=ToolCallSpec(f"function{_SEPARATOR}", "\n```json\n", "\n```", separator="\n", reserved=_RESERVED),
)
DEEPSEEK = Format(
    read_deepseek,
    FormatSpec(calls=_PLAIN.spec),
    ("</think>", *_DEEPSEEK, _SEPARATOR, _OUTPUT, _END_OUTPUT),
)
DEEPSEEK_FENCED = replace(DEEPSEEK, spec=FormatSpec(calls=_FENCED.spec))


# Kimi K2: `functions.f:0`, which is the call's id, and JSON.

_KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>")
_ARGUMENTS = "<|tool_call_argument_begin|>"
_HEAD = re.compile(r"(?:functions\.)?(?P<name>.+?)(?::\d+)?")


def read_kimi(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer of Kimi K2."""
    while tag := (yield from buffer.emit_until(content, _KIMI_CALLS.calls, _KIMI_CALLS.call)):
        yield from _KIMI_CALLS.read_list(buffer, tag)


def _read_kimi_call(body: str) -> ToolCall:
    head, separator, arguments = body.partition(_ARGUMENTS)
    match = _HEAD.fullmatch(head := head.strip())
    if not separator or match is None:
        raise Unreadable("no call")
    return ToolCall(match["name"], as_arguments(parse(arguments)), head)


_KIMI_CALLS = DelimitedCalls(
    *_KIMI,
    ToolCallSpec("functions.", f":{NUMBER}{_ARGUMENTS}", "", separator="", reserved=("<|tool_call",)),
    _read_kimi_call,
)
KIMI_K2 = Format(read_kimi, FormatSpec(calls=_KIMI_CALLS.spec), (*_KIMI, _ARGUMENTS))


# Solar Open: reasoning, text and calls are parts between special tokens.

_BEGIN, _END, _CONTENT, _THINK = "<|begin|>", "<|end|>", "<|content|>", "<|think|>"
_ASSISTANT = f"{_BEGIN}assistant"
_SOLAR = ("<|tool_calls|>", "<|calls|>", "<|tool_call:begin|>", "<|tool_call:end|>")
_SOLAR_NAME, _SOLAR_ARGUMENTS = "<|tool_call:name|>", "<|tool_call:args|>"


def read_solar(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    """Read an answer to a prompt that ends with `<|begin|>assistant`; whitespace between parts is dropped."""
    if context.opened(_THINK):
        buffer.push_back(_THINK)
    calls = _SOLAR_CALLS.calls
    while tag := (yield from buffer.emit_until(content, _THINK, _CONTENT, calls, _END, _ASSISTANT)):
        if tag == _THINK:
            yield from buffer.emit_until(reasoning, _END)
        elif tag == calls:
            yield from _SOLAR_CALLS.read_list(buffer, tag)
        if tag != _CONTENT:
            yield from buffer.skip_space()


def _read_solar_call(body: str) -> ToolCall:
    call_id, _, rest = body.partition(_SOLAR_NAME)
    name, separator, arguments = rest.partition(_SOLAR_ARGUMENTS)
    if not separator or not name.strip():
        raise Unreadable("no call")
    return ToolCall(name.strip(), as_arguments(parse(arguments)), call_id.strip())


_SOLAR_CALLS = DelimitedCalls(
    *_SOLAR,
    ToolCallSpec(
        f"call{NUMBER}{_SOLAR_NAME}", _SOLAR_ARGUMENTS, "", separator="", reserved=("<|tool_call:", _SOLAR[1])
    ),
    _read_solar_call,
)
SOLAR = Format(
    read_solar,
    FormatSpec((_THINK, f"{_END}{_ASSISTANT}"), _CONTENT, _SOLAR_CALLS.spec),
    (_BEGIN, _END, _CONTENT, _THINK, *_SOLAR, _SOLAR_NAME, _SOLAR_ARGUMENTS),
    thinking=True,
)
