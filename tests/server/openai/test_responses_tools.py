"""The tools of `/v1/responses`: as the engine gets them, and as the response names them."""

from typing import Any

import pytest

from engine.api import NamedTool, Tool
from modelfile.conversation import Property
from server.http.body import FieldError
from server.openai.responses_tools import ResponsesTools, echo_rule, parse_tools
from server.openai.tools import ToolRule

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"type": "function", "name": "weather", "description": "Weather of a city", "parameters": SCHEMA}
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "Changes files",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
GROUP = {"type": "namespace", "name": "crm", "description": "Customers", "tools": [FUNCTION, PATCH]}


def names(tools: ResponsesTools) -> list[tuple[str, str, str, bool]]:
    return [(tool.tool.name, tool.namespace, tool.name, tool.custom) for tool in tools.offered]


def test_a_function() -> None:
    tools = parse_tools([FUNCTION | {"strict": True}])
    assert tools.for_engine == (
        Tool(
            name="weather",
            description="Weather of a city",
            type="function",
            parameters_type="object",
            required=("city",),
            properties={"city": Property(type=("string",))},
            sent=SCHEMA,
        ),
    )
    assert tools.echo == (FUNCTION | {"strict": True},)


def test_a_function_with_nothing_but_a_name() -> None:
    tools = parse_tools([{"type": "function", "name": "now", "parameters": None}])
    assert tools.for_engine == (Tool(name="now", type="function"),)
    assert tools.echo == ({"type": "function", "name": "now", "description": None, "strict": None, "parameters": None},)


def test_custom_tools_take_a_text() -> None:
    [tool] = parse_tools([PATCH]).for_engine
    assert tool.sent == {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    assert tool.description == "Changes files\n\nstart: /.+/"


def test_names() -> None:
    tools = parse_tools([FUNCTION, PATCH, GROUP])
    assert names(tools) == [
        ("weather", "", "weather", False),
        ("patch", "", "patch", True),
        ("crm.weather", "crm", "weather", False),
        ("crm.patch", "crm", "patch", True),
    ]
    assert tools.called("crm.weather").namespace == "crm"
    assert (tools.called("invented").name, tools.called("invented").namespace) == ("invented", "")
    assert tools.echo[1:] == (PATCH, GROUP)


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "local_shell", "mcp", "image_generation"])
def test_tools_that_openai_runs_are_left_out(kind: str) -> None:
    assert parse_tools([{"type": kind}, FUNCTION]) == parse_tools([FUNCTION])


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        ([{"type": "function"}], "tools[0]: name is required", "[0].name"),
        ([FUNCTION, {"type": "custom"}], "tools[1]: name is required", "[1].name"),
        ([{"name": "f"}], "tools[0]: type is required", "[0].type"),
        ([FUNCTION, PATCH, FUNCTION], 'tools: "weather" is there twice', ""),
        ([FUNCTION] * 4097, "too many tools: 4097, at most 4096 are accepted", ""),
        (
            [GROUP | {"tools": [FUNCTION] * 4097}],
            "tools[0]: too many tools: 4097, at most 4096 are accepted",
            "[0]",
        ),
        ([GROUP | {"tools": [FUNCTION] * 2049}] * 2, "too many tools: 4098, at most 4096 are accepted", ""),
        (
            [FUNCTION | {"parameters": "x"}],
            "tools[0]: json: cannot unmarshal string into Go struct field ResponsesTool.parameters of type "
            "api.ToolFunctionParameters",
            "[0].parameters",
        ),
    ],
)
def test_refusals(value: Any, message: str, path: str) -> None:
    with pytest.raises(FieldError) as error:
        parse_tools(value)
    assert (str(error.value), error.value.param) == (message, path)


@pytest.mark.parametrize(
    ("rule", "echo"),
    [
        (ToolRule("required"), "required"),
        (ToolRule(NamedTool("weather")), {"type": "function", "name": "weather"}),
        (ToolRule(NamedTool("patch")), {"type": "custom", "name": "patch"}),
        (
            ToolRule("auto", frozenset({"weather", "crm.weather"})),
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [
                    {"type": "function", "name": "weather", "namespace": "crm"},
                    {"type": "function", "name": "weather"},
                ],
            },
        ),
    ],
)
def test_the_choice_is_repeated(rule: ToolRule, echo: Any) -> None:
    assert echo_rule(rule, parse_tools([FUNCTION, PATCH, GROUP])) == echo
