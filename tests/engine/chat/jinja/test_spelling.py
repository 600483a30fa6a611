"""Calls that are spelled can be read again, in every format."""

from __future__ import annotations

import pytest

from engine.api import ToolCall
from engine.chat.jinja.adapt import spelled
from engine.chat.output import Format, ParseContext, ToolSet, native_format
from engine.chat.output.format import Values
from tests.engine.chat.output.test_detect import EXCERPTS
from tests.engine.chat.reading import said, tool

FORMATS: dict[str, Format] = {template: native_format(template) for template, _ in EXCERPTS}
TOOLS = [tool("add", a="number", b="number"), tool("say", text="string", tags="array", loud="boolean"), tool("now")]
CALLS = (
    ToolCall("add", {"a": 1, "b": 2.5}),
    ToolCall("say", {"text": 'Tea, "please"!', "tags": ["a", "b"], "loud": True}),
    ToolCall("now", {}),
)
TURN = ParseContext(ToolSet(TOOLS), think=False)


def writes(format: Format) -> bool:
    calls = format.spec.calls
    return calls is not None and (calls.arguments is None or calls.arguments.values is not Values.QUOTED)


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if writes(format)])
def test_spelled_calls_can_be_read(name: str) -> None:
    shape = FORMATS[name].spec.calls
    assert shape is not None
    for call in CALLS:
        assert said(FORMATS[name], spelled([call], shape), TURN)[2] == [(call.name, call.arguments)]
    if shape.between is not None:
        assert said(FORMATS[name], spelled(CALLS, shape), TURN)[2] == [(call.name, call.arguments) for call in CALLS]
