"""Tools and `tool_choice`."""

import re
from typing import Any

import pytest

from engine.api import NamedTool, Tool
from server.http.errors import HTTPError
from server.openai.tools import ToolRule, check_functions, parse_function_call, parse_tool_rule

TOOLS = (Tool("a"), Tool("b"), Tool("c"))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("auto", ToolRule("auto")),
        ("none", ToolRule("none")),
        ("required", ToolRule("required")),
        ({"type": "function", "function": {"name": "a"}}, ToolRule(NamedTool("a"))),
        ({"type": "function", "name": "a"}, ToolRule(NamedTool("a"))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "a"}]},
            },
            ToolRule("required", frozenset("a")),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "function": {"name": "b"}}]},
            ToolRule("auto", frozenset("b")),
        ),
    ],
)
def test_rules(value: Any, rule: ToolRule) -> None:
    assert parse_tool_rule(value) == rule


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("maybe", 'invalid tool_choice: "maybe"'),
        ({"type": "custom", "custom": {"name": "x"}}, 'invalid tool_choice: {"type": "custom"'),
        ({"type": "allowed_tools", "mode": "all", "tools": []}, 'mode must be "auto" or "required"'),
        ({"type": "allowed_tools", "tools": [{"type": "mcp"}]}, "only functions and custom tools can be allowed"),
        (5, "invalid tool_choice: 5"),
    ],
)
def test_refused_rules(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_tool_rule(value)


def test_only_allowed_tools_are_left() -> None:
    assert ToolRule().among(TOOLS) == TOOLS
    assert ToolRule(allowed=frozenset("ac")).among(TOOLS) == (TOOLS[0], TOOLS[2])
    with pytest.raises(HTTPError, match='tool_choice allows "z", which is not among the tools') as caught:
        ToolRule(allowed=frozenset("az")).among(TOOLS)
    assert caught.value.param == "tool_choice"


def test_the_old_form() -> None:
    assert parse_function_call("none") == ToolRule("none")
    assert parse_function_call({"name": "a"}) == ToolRule(NamedTool("a"))
    with pytest.raises(ValueError, match="invalid function_call"):
        parse_function_call("required")


@pytest.mark.parametrize(
    ("tool", "message", "param"),
    [
        (Tool(type="custom"), "only tools of type 'function' are supported", "tools[1].type"),
        (Tool(type="function"), "tools[1]: name is required", "tools[1].function.name"),
        (Tool("a"), 'tools: "a" is there twice', "tools"),
    ],
)
def test_only_functions_with_different_names_are_tools(tool: Tool, message: str, param: str) -> None:
    check_functions([Tool("a"), Tool("b", type="function")], "tools", "function.name")
    with pytest.raises(HTTPError) as caught:
        check_functions([Tool("a"), tool], "tools", "function.name")
    assert (str(caught.value), caught.value.param) == (message, param)
