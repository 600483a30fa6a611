"""Typed bodies: what they accept, and the texts for what they do not."""

import json
import math
import re
from typing import Any

import pytest

from engine.api import ChatRequest, Message, NamedTool, ToolCall, ToolChoice
from engine.chat.jinja.adapt import definition
from modelfile.conversation import Property, Tool
from server.anthropic.schemas import MessagesBody
from server.http import body as bodies
from server.http.body import Body
from server.ollama.create_schema import CreateBody
from server.ollama.fields import parse_format
from server.ollama.schemas import ChatBody, EmbedBody, GenerateBody, PullBody
from server.openai.chat_schemas import ChatCompletionBody

FIELD = "json: cannot unmarshal {} into Go struct field {} of type {}"
MALFORMED = "Value looks like object, but can't find closing '}' symbol"
ERRORS: list[tuple[type[Body], str, str]] = [
    (GenerateBody, "[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
    (GenerateBody, '"x"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
    (ChatCompletionBody, "[]", "json: cannot unmarshal array into Go value of type openai.ChatCompletionRequest"),
    (MessagesBody, "1", "json: cannot unmarshal number into Go value of type anthropic.MessagesRequest"),
    (GenerateBody, '{"model":5}', FIELD.format("number", "GenerateRequest.model", "string")),
    (GenerateBody, '{"MODEL":5}', FIELD.format("number", "GenerateRequest.model", "string")),
    (GenerateBody, '{"stream":"true"}', FIELD.format("string", "GenerateRequest.stream", "bool")),
    (GenerateBody, '{"stream":0}', FIELD.format("number", "GenerateRequest.stream", "bool")),
    (GenerateBody, '{"context":"x"}', FIELD.format("string", "GenerateRequest.context", "[]int")),
    (GenerateBody, '{"context":[1.5]}', FIELD.format("number 1.5", "GenerateRequest.context", "int")),
    (GenerateBody, '{"context":[1.0]}', FIELD.format("number 1.0", "GenerateRequest.context", "int")),
    (GenerateBody, '{"top_logprobs":1e2}', FIELD.format("number 100.0", "GenerateRequest.top_logprobs", "int")),
    (GenerateBody, '{"context":[true]}', FIELD.format("bool", "GenerateRequest.context", "int")),
    (GenerateBody, '{"options":[]}', FIELD.format("array", "GenerateRequest.options", "map[string]interface {}")),
    (GenerateBody, '{"options":{"a":[1e400]}}', FIELD.format("number 1e400", "GenerateRequest.options", "float64")),
    (GenerateBody, '{"images":"abcd"}', FIELD.format("string", "GenerateRequest.images", "[]api.ImageData")),
    (GenerateBody, '{"images":[1]}', FIELD.format("number", "GenerateRequest.images", "api.ImageData")),
    (GenerateBody, '{"images":[[[]]]}', FIELD.format("array", "GenerateRequest.images", "uint8")),
    (GenerateBody, '{"images":[[256]]}', FIELD.format("number 256", "GenerateRequest.images", "uint8")),
    (GenerateBody, '{"images":[{}]}', FIELD.format("object", "GenerateRequest.images", "api.ImageData")),
    (GenerateBody, '{"images":["!!!"]}', "illegal base64 data at input byte 0"),
    (ChatBody, '{"messages":"hi"}', FIELD.format("string", "ChatRequest.messages", "[]api.Message")),
    (ChatBody, '{"messages":["x"]}', FIELD.format("string", "ChatRequest.messages", "api.Alias")),
    (ChatBody, '{"messages":[{"content":5}]}', FIELD.format("number", "ChatRequest.messages.content", "string")),
    (
        ChatBody,
        '{"messages":[{"tool_calls":[{"function":{"name":5}}]}]}',
        FIELD.format("number", "ChatRequest.messages.tool_calls.function.name", "string"),
    ),
    (ChatBody, '{"messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}', MALFORMED),
    (ChatBody, '{"tools":{}}', FIELD.format("object", "ChatRequest.tools", "api.Tools")),
    (ChatBody, '{"tools":[{"type":1}]}', FIELD.format("number", "ChatRequest.tools.type", "string")),
    (ChatBody, '{"tools":[{"function":{"parameters":{"properties":[]}}}]}', MALFORMED),
    (
        ChatBody,
        '{"tools":[{"function":{"parameters":{"properties":{"a":{},"b":1,"c":2}}}}]}',
        FIELD.format("number", "ChatRequest.tools.function.parameters.properties.b", "api.ToolProperty"),
    ),
    (
        ChatBody,
        '{"tools":[{"function":{"parameters":{"properties":{"a":{"properties":{"b":{"type":1}}},"c":2}}}}]}',
        FIELD.format("number", "ChatRequest.tools.function.parameters.properties.a.properties.b.type", "[]string"),
    ),
    (
        ChatBody,
        '{"tools":[{"function":{"parameters":"x"}}]}',
        FIELD.format("string", "ChatRequest.tools.function.parameters", "api.ToolFunctionParameters"),
    ),
    (CreateBody, '{"files":"x"}', FIELD.format("string", "CreateRequest.files", "map[string]string")),
    (GenerateBody, '{"keep_alive":"5"}', 'time: missing unit in duration "5"'),
    (GenerateBody, '{"keep_alive":true}', "Unsupported type: 'bool'"),
    (GenerateBody, '{"keep_alive":{}}', "Unsupported type: 'map[string]interface {}'"),
    (GenerateBody, '{"keep_alive":[]}', "Unsupported type: '[]interface {}'"),
    (
        GenerateBody,
        '{"think":"hard"}',
        'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)',
    ),
    (GenerateBody, '{"think":1}', 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    # The first mistake is told, but a type that decodes itself ends it all.
    (GenerateBody, '{"prompt":1,"model":2}', FIELD.format("number", "GenerateRequest.prompt", "string")),
    (GenerateBody, '{"model":5,"keep_alive":"1d"}', 'time: unknown unit "d" in duration "1d"'),
]


def test_long_numbers_are_not_told_whole() -> None:
    with pytest.raises(ValueError, match=r"^json: cannot unmarshal number 1{100}… into Go struct field"):
        decode(GenerateBody, '{"context":[' + "1" * 5000 + "]}")


@pytest.mark.parametrize(("kind", "body", "message"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_error_texts(kind: type[Body], body: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decode(kind, body)


def decode(kind: type[Body], body: str) -> Any:
    return bodies.decode(body.encode(), kind)


def test_absent_and_null_are_the_same() -> None:
    nulls = "{" + ",".join(f'"{name}":null' for name in ("model", "stream", "context", "options", "keep_alive")) + "}"
    assert decode(GenerateBody, nulls) == decode(GenerateBody, "{}") == decode(GenerateBody, "null")
    assert decode(GenerateBody, "{}").stream is True


def test_keys_match_in_any_case_and_the_last_wins() -> None:
    body = decode(GenerateBody, '{"MODEL":"a","Prompt":"b","model":"c","STREAM":false,"unknown":[{}]}')
    assert (body.model, body.prompt, body.stream) == ("c", "b", False)
    assert decode(GenerateBody, '{"model":5,"model":"x"}').model == "x"


def test_an_empty_context_is_present() -> None:
    assert decode(GenerateBody, '{"context":[]}').request().context == []
    assert decode(GenerateBody, "{}").request().context is None


def test_bytes_may_come_as_numbers() -> None:
    assert decode(GenerateBody, '{"images":[[],[1,null,255],"AQ=="]}').images == (b"", b"\x01\x00\xff", b"\x01")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("42.5", 42.5), ("0", 0), ("-1", math.inf), ('"-1m"', math.inf), ('"1h"', 3600), ("1e300", math.inf)],
)
def test_keep_alive(value: str, seconds: float) -> None:
    assert decode(GenerateBody, f'{{"keep_alive":{value}}}').keep_alive == seconds


@pytest.mark.parametrize(
    ("value", "constraint"),
    [
        ("null", None),
        ('""', None),
        ('"json"', '"json"'),
        ('{"b": 1, "a": {"x": [1, 2.5]}}', '{"b":1,"a":{"x":[1,2.5]}}'),
        ('"xml"', '"xml"'),
    ],
)
def test_format_is_passed_on_as_text(value: str, constraint: str | None) -> None:
    assert decode(ChatBody, f'{{"format":{value}}}').format == constraint


@pytest.mark.parametrize("value", ['"low"', '"max"', "true", "false"])
def test_think(value: str) -> None:
    assert decode(ChatBody, f'{{"think":{value}}}').think == json.loads(value)


def test_name_stands_for_model() -> None:
    assert decode(PullBody, '{"name":"a"}').model_name == "a"
    assert decode(PullBody, '{"name":"a","model":"b"}').model_name == "b"


def test_messages() -> None:
    body = """{"messages":[null, {"role":"USER","content":null,"images":["QUI="]},
      {"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"b":1,"a":[2]}}}]},
      {"role":"tool","tool_name":"f","tool_call_id":"c1","content":"x","thinking":"t"}]}"""
    request: ChatRequest = decode(ChatBody, body).request()
    assert request.messages == [
        Message(role=""),
        Message(role="user", images=(b"AB",)),
        Message(role="assistant", tool_calls=(ToolCall("f", {"b": 1, "a": [2]}, id="c1"),)),
        Message(role="tool", content="x", thinking="t", tool_name="f", tool_call_id="c1"),
    ]


def test_tools_keep_known_keys_in_their_order() -> None:
    body = """{"tools":[{"function":{"parameters":{"properties":{"z":{"title":"Z","description":"d",
      "type":["string","null"],"enum":["a"]},"a":{"type":"object","properties":{"q":{"type":"integer","minimum":1}},"required":["q"]}},
      "required":["z"],"type":"object","additionalProperties":false},"name":"f","strict":true},"type":"function"}]}"""
    (tool,) = decode(ChatBody, body).request().tools
    shown = definition(tool)
    assert shown == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "",
            "parameters": {
                "type": "object",
                "required": ["z"],
                "properties": {
                    "z": {"type": ["string", "null"], "description": "d", "enum": ["a"]},
                    "a": {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]},
                },
            },
        },
    }
    assert list(shown["function"]["parameters"]) == ["type", "required", "properties"]
    assert list(shown["function"]["parameters"]["properties"]) == ["z", "a"]
    assert list(shown["function"]["parameters"]["properties"]["z"]) == ["type", "description", "enum"]


def test_null_in_a_tool_is_as_good_as_nothing() -> None:
    keys = ("anyOf", "type", "items", "description", "enum", "properties", "required")
    nothing: dict[str, Any] = dict.fromkeys(keys)
    functions = [None, {"parameters": None, "name": None}, {"parameters": {"properties": {"a": nothing}}}]
    body = json.dumps({"tools": [{"function": function} for function in functions]})
    first, second, third = decode(ChatBody, body).request().tools
    assert first == second == Tool()
    assert third.properties == {"a": Property()}


def test_parameters_are_kept_as_they_were_sent() -> None:
    body = """{"tools":[{"function":{"name":"f","parameters":{"properties":{"b":{"$ref":"#/$defs/x"},"a":{"minimum":1}},
      "$defs":{"x":{"const":1}},"additionalProperties":false}}},{"function":{"name":"g"}}]}"""
    schemas = {tool.name: tool.sent for tool in decode(ChatBody, body).request().tools}
    assert schemas == {
        "f": {
            "properties": {"b": {"$ref": "#/$defs/x"}, "a": {"minimum": 1}},
            "$defs": {"x": {"const": 1}},
            "additionalProperties": False,
        },
        "g": {},
    }
    assert list(schemas["f"]["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("null", "auto"),
        ('""', "auto"),
        ('"auto"', "auto"),
        ('"none"', "none"),
        ('"required"', "required"),
        ('{"function":{"name":"f"},"type":"function"}', NamedTool("f")),
    ],
)
def test_tool_choice(value: str, choice: ToolChoice) -> None:
    assert decode(ChatBody, f'{{"tool_choice":{value}}}').request().tool_choice == choice


@pytest.mark.parametrize("value", ['"any"', "true", "[]", '{"type":"function"}', '{"type":"auto"}'])
def test_what_is_no_tool_choice(value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"invalid tool_choice: {json.dumps(json.loads(value))} (must be")):
        decode(ChatBody, f'{{"tool_choice":{value}}}')


def test_embed_takes_any_input() -> None:
    assert decode(EmbedBody, '{"input":["a","b"]}').input == ["a", "b"]


def test_a_format_that_is_no_format_is_not_carried_along() -> None:
    text = parse_format("x" * 50_000)
    assert text is not None
    assert len(text) < 300
