"""What parsers know of the tools."""

from __future__ import annotations

from engine.chat.output import ToolSet
from modelfile.conversation import Property, Tool
from tests.engine.chat.reading import TOOLS, tool


def test_names() -> None:
    tools = ToolSet(TOOLS)
    assert tools.names == ("get_weather", "add", "now")
    assert "add" in tools
    assert "nope" not in tools
    assert tools
    assert not ToolSet()
    assert not ToolSet([Tool(type="function")])


def test_types() -> None:
    odd = {"anyOf": [{"type": "string"}, {"type": ["null", "integer"]}, {"anyOf": [{"type": "array"}]}, "?"]}
    tools = ToolSet(
        [
            tool("f", a="integer", b=["string", "null"]),
            Tool("g", sent={"properties": {"c": odd, "d": {}, "e": None}}),
        ]
    )
    assert tools.types("f", "a") == {"integer"}
    assert tools.types("f", "b") == {"string", "null"}
    assert tools.types("g", "c") == {"string", "null", "integer", "array"}
    assert (
        tools.types("g", "d") == tools.types("g", "e") == tools.types("f", "x") == tools.types("x", "a") == frozenset()
    )


def test_tools_under_other_names() -> None:
    tools = ToolSet([tool("f", a="integer")]).aliased({"ns.f": "f"})
    assert tools.names == ("ns.f",)
    assert tools.types("ns.f", "a") == {"integer"}


def test_types_as_they_were_sent() -> None:
    sent = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "array"}}}
    properties = {"a": Property(type=("string",))}
    assert ToolSet([Tool("f", properties=properties, sent=sent)]).types("f", "a") == {"array"}
    assert ToolSet([Tool("f", sent={"properties": "?"})]).types("f", "a") == frozenset()
