"""Tools as templates print and ask them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelfile.gotemplate.messages import TOOLS
from modelfile.gotemplate.template import Template
from modelfile.gotemplate.values import Value
from tests.modelfile.gotemplate.cases import execute
from tests.tools import tools_of

NESTED = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}, "required": ["z"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get <weather>",
        "parameters": {
            "type": "object",
            "$defs": {"b": 1, "a": 2},
            "required": ["city"],
            "properties": {"where": NESTED, "city": {"type": "string", "minLength": 1}, "none": {}},
        },
    },
}


def rendered(template: str, *tools: dict[str, Any]) -> str:
    return execute(Template.parse(template), {"Tools": Value(TOOLS, tools_of(tools))})


def test_a_function_prints_as_json() -> None:
    printed = rendered("{{ range .Tools }}{{ .Function }}{{ end }}", WEATHER)
    assert printed == rendered("{{ range .Tools }}{{ json .Function }}{{ end }}", WEATHER)
    assert list(json.loads(printed)) == ["name", "description", "parameters"]
    parameters = rendered("{{ range .Tools }}{{ .Function.Parameters }}{{ end }}", WEATHER)
    assert json.loads(printed)["parameters"] == json.loads(parameters)


def test_order_and_what_is_dropped() -> None:
    assert rendered("{{ .Tools }}", WEATHER) == (
        '[{"type":"function","function":{"name":"get_weather","description":"Get \\u003cweather\\u003e","parameters":'
        '{"type":"object","$defs":{"a":2,"b":1},"required":["city"],"properties":{"city":{"type":"string"},"none":{},'
        '"where":{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}},"required":["z"]}}}}}]'
    )


def test_a_tool_without_anything() -> None:
    assert rendered("{{ .Tools }}", {}) == (
        '[{"type":"","function":{"name":"","description":"","parameters":{"type":"","properties":null}}}]'
    )


def test_nested_properties_keep_their_order() -> None:
    where = "(index .Tools 0).Function.Parameters.Properties.where.Properties"
    assert rendered(
        f"{{{{ range $name, $p := {where} }}}}{{{{ $name }}}}:{{{{ $p.Type }}}} {{{{ end }}}}", WEATHER
    ) == ("z:string a:integer ")
    assert rendered(f"{{{{ {where} }}}}", WEATHER) == '{"z":{"type":"string"},"a":{"type":"integer"}}'


@pytest.mark.parametrize(
    ("schema", "typescript"),
    [
        ({}, "any"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "array"}, "any[]"),
        ({"type": "object"}, "Record<string, any>"),
        ({"type": "date"}, "any"),
        ({"anyOf": [{"type": "boolean"}, {"anyOf": [{"type": "number"}, {}]}]}, "boolean | number | any"),
    ],
)
def test_typescript(schema: dict[str, Any], typescript: str) -> None:
    tool = {"function": {"parameters": {"properties": {"p": schema}}}}
    template = "{{ range .Tools }}{{ range .Function.Parameters.Properties }}{{ %s }}{{ end }}{{ end }}"
    assert rendered(template % ".ToTypeScriptType", tool) == typescript
    assert rendered(template % "toTypeScriptType .", tool) == typescript
