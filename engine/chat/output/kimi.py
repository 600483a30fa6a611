"""Kimi's answers: K2's calls are `functions.f:0` and JSON between sentinels, K3 has tags with attributes for all."""

from __future__ import annotations

import re

from engine.api import ToolCall
from engine.chat.output.delimited import Sentinels
from engine.chat.output.format import KIND, NUMBER, ArgumentSpec, FormatSpec, ParseContext, ToolCallSpec, bare_name
from engine.chat.output.json_calls import as_arguments, parse
from engine.chat.output.markup import Markup
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, reasoning

CALLS, END_CALLS = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, END_CALL = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
PRESERVED = (CALLS, END_CALLS, CALL, ARGUMENTS, END_CALL)
SHAPE = FormatSpec(
    calls=ToolCallSpec(
        f"{CALL}functions.",
        f":{NUMBER}{ARGUMENTS}",
        END_CALL,
        CALLS,
        END_CALLS,
        "",
        reserved=("<|tool_call",),
    )
)
_HEAD = re.compile(r"(?:functions\.)?(?P<name>.+?)(?::\d+)?")


def _stated(kind: str) -> str:
    """What K3 calls a kind of value."""
    return "number" if kind == "integer" else kind


THINK, END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
RESPONSE, END_RESPONSE = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
END_MESSAGE = "<|close|>message<|sep|>"
PRESERVED_K3 = ("<|open|>", "<|close|>", "<|sep|>")
_TOOLS = Markup(
    "<|open|>tools<|sep|>",
    "<|close|>tools<|sep|>",
    "<|close|>call<|sep|>",
    re.compile(
        r'<\|open\|>call tool="(?P<name>[^"]{1,256})"[^|]{0,256}<\|sep\|>'
        r"(?P<body>.*?)(?:<\|close\|>call<\|sep\|>|(?=<\|open\|>call )|\Z)",
        re.DOTALL,
    ),
    re.compile(
        r'<\|open\|>argument key="(?P<name>[^"]{1,256})"(?: type="(?P<type>\w{1,16})")?[^|]{0,256}<\|sep\|>'
        r"(?P<value>.*?)(?:<\|close\|>argument<\|sep\|>|(?=<\|open\|>argument )|\Z)",
        re.DOTALL,
    ),
)

SHAPE_K3 = FormatSpec(
    (THINK, END_THINK),
    RESPONSE,
    ToolCallSpec(
        '<|open|>call tool="',
        f'" index="{NUMBER}"<|sep|>',
        "<|close|>call<|sep|>",
        _TOOLS.opening,
        _TOOLS.closing,
        "",
        arguments=ArgumentSpec(
            '<|open|>argument key="',
            f'" type="{KIND}"<|sep|>',
            "<|close|>argument<|sep|>",
            kind=_stated,
            names=bare_name('"'),
        ),
        reserved=("<|open|>", "<|close|>"),
        names=bare_name('"'),
    ),
)


def read_kimi(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer of Kimi K2."""
    while tag := (yield from buffer.emit_until(content, CALLS, CALL)):
        yield from _LIST.read_list(buffer, tag)


def read_kimi3(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer of Kimi K3, reasoning in it too."""
    if turn.opened(THINK):
        buffer.push_back(THINK)
    while tag := (yield from buffer.emit_until(content, THINK, RESPONSE, END_RESPONSE, END_MESSAGE, _TOOLS.opening)):
        if tag == THINK:
            yield from buffer.emit_until(reasoning, END_THINK)
            yield from buffer.skip_space()
        elif tag == _TOOLS.opening:
            yield from _TOOLS.read_block(buffer, turn.tools)


def _read(body: str) -> ToolCall:
    id, separator, arguments = body.partition(ARGUMENTS)
    match = _HEAD.fullmatch(id := id.strip())
    if not separator or match is None:
        raise Unreadable("no call")
    return ToolCall(match["name"], as_arguments(parse(arguments)), id)


_LIST = Sentinels(CALLS, END_CALLS, CALL, END_CALL, _read)
