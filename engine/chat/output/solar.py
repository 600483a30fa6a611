"""Solar Open: reasoning, text and calls, each a part of its own between special tokens."""

from __future__ import annotations

from engine.api import ToolCall
from engine.chat.output.delimited import Sentinels
from engine.chat.output.format import NUMBER, FormatSpec, ParseContext, ToolCallSpec
from engine.chat.output.json_calls import as_arguments, parse
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, reasoning

BEGIN, END, CONTENT, THINK = "<|begin|>", "<|end|>", "<|content|>", "<|think|>"
CALLS, END_CALLS = "<|tool_calls|>", "<|calls|>"
CALL, NAME, ARGUMENTS, END_CALL = (f"<|tool_call:{part}|>" for part in ("begin", "name", "args", "end"))
PRESERVED = (BEGIN, END, CONTENT, THINK, CALLS, END_CALLS, CALL, NAME, ARGUMENTS, END_CALL)
_ASSISTANT = f"{BEGIN}assistant"
SHAPE = FormatSpec(
    (THINK, f"{END}{_ASSISTANT}"),
    CONTENT,
    ToolCallSpec(
        f"{CALL}call{NUMBER}{NAME}",
        ARGUMENTS,
        END_CALL,
        CALLS,
        END_CALLS,
        "",
        reserved=("<|tool_call:", END_CALLS),
    ),
)


def read_solar(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read an answer, which goes on behind `<|begin|>assistant`; whitespace between two parts is dropped."""
    if turn.opened(THINK):
        buffer.push_back(THINK)
    while tag := (yield from buffer.emit_until(content, THINK, CONTENT, CALLS, END, _ASSISTANT)):
        if tag == THINK:
            yield from buffer.emit_until(reasoning, END)
        elif tag == CALLS:
            yield from _LIST.read_list(buffer, tag)
        if tag != CONTENT:
            yield from buffer.skip_space()


def _read(body: str) -> ToolCall:
    id, _, rest = body.partition(NAME)
    name, separator, arguments = rest.partition(ARGUMENTS)
    if not separator or not name.strip():
        raise Unreadable("no call")
    return ToolCall(name.strip(), as_arguments(parse(arguments)), id.strip())


_LIST = Sentinels(CALLS, END_CALLS, CALL, END_CALL, _read)
