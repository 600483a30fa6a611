"""What parsers know of the tools."""

from __future__ import annotations

from engine.chat.output import ToolSet
from tests.engine.chat.reading import TOOLS, tool


def test_names() -> None:
    tools = ToolSet(TOOLS)
    assert tools.names == ("get_weather", "add", "now")
    assert "add" in tools
    assert "nope" not in tools
    assert tools
    assert not ToolSet()
    assert not ToolSet([{"type": "function"}, {"function": {"name": ""}}])


def test_types() -> None:
    odd = {"anyOf": [{"type": "string"}, {"type": ["null", "integer"]}, {"anyOf": [{"type": "array"}]}, "?"]}
    tools = ToolSet(
        [
            tool("f", a="integer", b=["string", "null"]),
            {"function": {"name": "g", "parameters": {"properties": {"c": odd, "d": {}, "e": None}}}},
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
    schemas = {"f": {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "array"}}}}
    assert ToolSet([tool("f", a="string")], schemas).types("f", "a") == {"array"}
    assert ToolSet([tool("f", a="string")], {"f": None}).types("f", "a") == {"string"}
    assert ToolSet([tool("f", a="string")], {"f": "?"}).types("f", "a") == frozenset()
