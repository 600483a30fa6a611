"""DeepSeek's calls between sentinels: `f<｜tool▁sep｜>{…}`, or `function<｜tool▁sep｜>f` and the JSON in a fence."""

from __future__ import annotations

from dataclasses import replace

from engine.api import ToolCall
from engine.chat.output.delimited import Sentinels
from engine.chat.output.format import ParseContext, ToolCallSpec
from engine.chat.output.json_calls import as_arguments, parse
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content

CALLS, END_CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, END_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"
OUTPUT, END_OUTPUT = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
OUTPUTS, END_OUTPUTS = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
PLAIN_CALLS = ToolCallSpec(CALL, SEPARATOR, END_CALL, CALLS, END_CALLS, between="", reserved=("<｜tool▁call",))
FENCED_CALLS = replace(
    PLAIN_CALLS,
    opening=f"{CALL}function{SEPARATOR}",
    middle="\n```json\n",
    closing=f"\n```{END_CALL}",
    between="\n",
)
PRESERVED = ("</think>", CALLS, END_CALLS, CALL, END_CALL, SEPARATOR, OUTPUT, END_OUTPUT)


def read_deepseek(buffer: TextBuffer, turn: ParseContext) -> ParserCoroutine[None]:
    """Read the content of an answer. A result that the model makes up loses its tags; a list of them is dropped."""
    while tag := (yield from buffer.emit_until(content, CALLS, CALL, OUTPUT, END_OUTPUT, OUTPUTS)):
        if tag == OUTPUTS:
            yield from buffer.read_until(END_OUTPUTS)
        elif tag in (CALLS, CALL):
            yield from _LIST.read_list(buffer, tag)


def _read(body: str) -> ToolCall:
    head, _, rest = body.partition(SEPARATOR)
    before, brace, _ = rest.partition("{")
    if not brace:
        raise Unreadable("no arguments")
    name = before.replace("```json", "").replace("```", "").strip() or head.strip()
    return ToolCall(name, as_arguments(parse(rest[len(before) : rest.rfind("}") + 1])))


_LIST = Sentinels(CALLS, END_CALLS, CALL, END_CALL, _read)
