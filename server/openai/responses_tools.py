"""The tools of `/v1/responses`: as the engine takes them, and how calls of them are named in the answer.

Custom tools, whose input is free text, are functions with one parameter for the engine. Members of a namespace are
functions with a name of both parts. Tools that OpenAI runs itself are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator

from engine.api import NamedTool, Tool
from modelfile.text import cut, quote
from server.http.body import Body, FieldError, mismatch, parse_each, validated
from server.ollama.fields import MAX_ITEMS, FunctionBody, ParametersBody, ToolBody, first_double
from server.openai.tools import ToolRule

log = logging.getLogger("pronk.server")

INPUT = "input"
"""The parameter of a custom tool."""
_GO_LIST = "[]openai.ResponsesTool"
_CUSTOM = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise mismatch(value, _GO_LIST)
    return value


class FunctionTool(Body):
    """A function that the model may call."""

    go: ClassVar[str] = "openai.ResponsesTool"

    type: Literal["function"] = "function"
    name: str = ""
    description: str | None = None
    strict: bool | None = None
    parameters: ParametersBody = Field(default_factory=ParametersBody)


class CustomFormat(Body):
    """The syntax of a custom tool's input; it is told to the model, but not enforced."""

    type: Literal["text", "grammar"] = "text"
    syntax: str = ""
    definition: str = ""


class CustomTool(Body):
    """A tool that takes any text."""

    go: ClassVar[str] = "openai.ResponsesTool"

    type: Literal["custom"] = "custom"
    name: str = ""
    description: str | None = None
    format: CustomFormat = Field(default_factory=CustomFormat)


class NamespaceTool(Body):
    """Tools with a common name before their own."""

    go: ClassVar[str] = "openai.ResponsesTool"

    type: Literal["namespace"] = "namespace"
    name: str = ""
    description: str | None = None
    tools: Annotated[list[Any], PlainValidator(_list, json_schema_input_type=list[FunctionTool | CustomTool])] = Field(
        default_factory=list
    )


class HostedTool(Body):
    """A tool that OpenAI runs, such as `web_search`; it is not offered to the model."""

    go: ClassVar[str] = "openai.ResponsesTool"

    type: str = ""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool that the model may call: for the engine, and as the client knows it."""

    tool: Tool
    name: str
    namespace: str = ""
    custom: bool = False


@dataclass(frozen=True, slots=True)
class ResponsesTools:
    """The tools of a request. `echo` is how the response lists them."""

    offered: tuple[OfferedTool, ...] = ()
    echo: tuple[dict[str, Any], ...] = ()

    @property
    def for_engine(self) -> tuple[Tool, ...]:
        """The tools as the engine takes them."""
        return tuple(tool.tool for tool in self.offered)

    def called(self, name: str) -> OfferedTool:
        """The tool of a name that the model has called, which need not be one of the request's."""
        known = (tool for tool in self.offered if tool.tool.name == name)
        return next(known, OfferedTool(Tool(name), name))


def flat_name(namespace: str, name: str) -> str:
    """The name of a tool for the model."""
    return f"{namespace}.{name}" if namespace else name


def parse_tools(value: Any) -> ResponsesTools:
    """The tools of a request. Raises FieldError."""
    items = _list(value)
    _check_count(len(items))
    offered = parse_each("tools", items, lambda item: tuple(_offered(item)))
    _check_count(sum(map(len, offered)))
    if double := first_double(tool.tool.name for tools in offered for tool in tools):
        raise FieldError(f"tools: {quote(cut(double))} is there twice")
    echo = tuple(_echo(item) for item, tools in zip(items, offered, strict=True) if tools)
    return ResponsesTools(tuple(tool for tools in offered for tool in tools), echo)


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise FieldError(f"too many tools: {count}, at most {MAX_ITEMS} are accepted")


def _offered(value: Any, namespace: str = "") -> Iterator[OfferedTool]:
    match validated(value, HostedTool).type:
        case "function":
            function = validated(value, FunctionTool)
            yield _tool(function.name, function.description or "", function.parameters, namespace)
        case "custom":
            custom = validated(value, CustomTool)
            text = "\n\n".join(filter(None, (custom.description, custom.format.definition)))
            yield _tool(custom.name, text, validated(_CUSTOM, ParametersBody), namespace, custom=True)
        case "namespace" if not namespace:
            group = validated(value, NamespaceTool)
            _check_count(len(group.tools))
            for item in group.tools:
                yield from _offered(item, group.name)
        case "":
            raise FieldError("type is required", "type")
        case hosted:
            log.debug("tool is not offered to the model: this server does not run %s", cut(hosted))


def _tool(
    name: str, description: str, parameters: ParametersBody, namespace: str, *, custom: bool = False
) -> OfferedTool:
    if not name:
        raise FieldError("name is required", "name")
    function = FunctionBody(name=flat_name(namespace, name), description=description, parameters=parameters)
    return OfferedTool(ToolBody(type="function", function=function).tool, name, namespace, custom)


def echo_rule(rule: ToolRule, tools: ResponsesTools) -> Any:
    """The `tool_choice` as the response repeats it."""
    if rule.allowed is not None:
        allowed = [_reference(tools.called(name)) for name in sorted(rule.allowed)]
        return {"type": "allowed_tools", "mode": rule.choice, "tools": allowed}
    return _reference(tools.called(rule.choice.name)) if isinstance(rule.choice, NamedTool) else rule.choice


def _reference(tool: OfferedTool) -> dict[str, Any]:
    namespace = {"namespace": tool.namespace} if tool.namespace else {}
    return {"type": "custom" if tool.custom else "function", "name": tool.name, **namespace}


def _echo(value: dict[str, Any]) -> dict[str, Any]:
    """The tool as the response lists it: a function with all its keys, another as it was sent."""
    if value.get("type") != "function":
        return value
    return {key: value.get(key) for key in ("type", "name", "description", "strict", "parameters")}


AnyTool = FunctionTool | CustomTool | NamespaceTool | HostedTool
ToolsValue = Annotated[ResponsesTools, PlainValidator(parse_tools, json_schema_input_type=list[AnyTool] | None)]
