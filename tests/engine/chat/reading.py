"""Helpers to run parsers over answers in chunks and to add up their deltas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.api import Delta
from engine.chat.output import Format, OutputParser, ParseContext, ToolSet
from engine.chat.output.format import Reader
from engine.chat.output.stream import StreamParser
from modelfile.conversation import Tool
from tests.tools import tool_of


def steps(parser: StreamParser, chunks: Iterable[str]) -> Iterator[Delta]:
    """What the parser emits for each chunk, and at last for the end."""
    for chunk in chunks:
        yield joined(parser.feed(chunk))
    yield joined(parser.feed("", final=True))


def answer(parser: StreamParser, chunks: Iterable[str]) -> Delta:
    """The whole answer."""
    return joined(steps(parser, chunks))


def joined(deltas: Iterable[Delta]) -> Delta:
    """Several deltas as one."""
    total = Delta()
    for delta in deltas:
        total.content += delta.content
        total.thinking += delta.thinking
        total.tool_calls += delta.tool_calls
    return total


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text in pieces, cut at the given places (modulo its length)."""
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *marks], [*marks, len(text)], strict=True)]


def tool(name: str, **types: str | list[str]) -> Tool:
    """A tool; `types` are those of its parameters."""
    properties = {key: {"type": kind} for key, kind in types.items()}
    parameters = {"type": "object", "properties": properties}
    return tool_of({"type": "function", "function": {"name": name, "parameters": parameters}})


TOOLS = (tool("get_weather", city="string", days="integer"), tool("add", a="number", b="number"), tool("now"))


CONTEXT = ParseContext(ToolSet(TOOLS))


def parsed(
    format: Format | Reader, text: str, context: ParseContext = CONTEXT
) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    """Content, thinking and calls of an answer, which must not depend on how it is cut."""
    if not isinstance(format, Format):
        format = Format(format)
    whole = answer(OutputParser(format, context, lambda: "id"), [text])
    assert answer(OutputParser(format, context, lambda: "id"), text) == whole
    return whole.content, whole.thinking, [(call.name, call.arguments) for call in whole.tool_calls]
