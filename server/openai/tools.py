"""Tools and `tool_choice` in all forms that OpenAI's APIs have had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from engine.api import NamedTool, Tool, ToolChoice
from modelfile.text import cut, quote
from server.http.body import Body
from server.http.errors import HTTPError
from server.ollama.fields import NAMED_FUNCTION, NamedToolChoice, first_double, parse_tool_choice


@dataclass(frozen=True, slots=True)
class ToolRule:
    """Whether tools must be called, and the names of those that may be; None: all."""

    choice: ToolChoice = "auto"
    allowed: frozenset[str] | None = None

    def among(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that may be called. Raises HTTPError for an allowed tool that is not there."""
        if self.allowed is None:
            return tuple(tools)
        if missing := self.allowed - {tool.name for tool in tools}:
            raise HTTPError(f'tool_choice allows "{min(missing)}", which is not among the tools', "tool_choice")
        return tuple(tool for tool in tools if tool.name in self.allowed)


def parse_tool_rule(value: Any, function: str = NAMED_FUNCTION) -> ToolRule:
    """A word, one function, or allowed functions, as Chat Completions and Responses write them.

    Raises ValueError, whose text shows `function` as the form of a function.
    """
    match value:
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolRule(NamedTool(name))
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(tools)} as rule}:
            return _allowed(rule.get("mode"), tools)
        case {"type": "allowed_tools", "tools": list(tools)}:
            return _allowed(value.get("mode"), tools)
    return ToolRule(parse_tool_choice(value, function))


def parse_flat_rule(value: Any) -> ToolRule:
    """The same for Responses, whose functions have no object within. Raises ValueError."""
    return parse_tool_rule(value, '{"type":"function","name":…}')


def _allowed(mode: Any, tools: list[Any]) -> ToolRule:
    if mode not in (None, "auto", "required"):
        raise ValueError('invalid tool_choice: mode must be "auto" or "required"')
    return ToolRule(mode or "auto", frozenset(_name(tool) for tool in tools))


def _name(tool: Any) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function" | "custom", "name": str(name)}:
            return name
    raise ValueError("invalid tool_choice: only functions and custom tools can be allowed")


def parse_function_call(value: Any) -> ToolRule:
    """The old `function_call`: "auto", "none", or a function's name. Raises ValueError."""
    match value:
        case "auto" | "none":
            return ToolRule(value)
        case {"name": str(name)}:
            return ToolRule(NamedTool(name))
    raise ValueError('invalid function_call (must be "auto", "none" or {"name":…})')


def check_functions(tools: Sequence[Tool], field: str, name_field: str) -> None:
    """Raise HTTPError for a tool that is no function, has no name, or that of another one.

    `field` is the list of tools, `name_field` where each has its name.
    """
    for index, tool in enumerate(tools):
        if tool.type not in ("", "function"):
            raise HTTPError("only tools of type 'function' are supported", f"{field}[{index}].type")
        if not tool.name:
            raise HTTPError(f"{field}[{index}]: name is required", f"{field}[{index}].{name_field}")
    if double := first_double(tool.name for tool in tools):
        raise HTTPError(f"{field}: {quote(cut(double))} is there twice", field)


class FunctionName(Body):
    """A function by its name."""

    name: str = ""


class AllowedTools(Body):
    """The functions that may be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedToolChoice] = Field(default_factory=list)


class AllowedToolsChoice(Body):
    """A `tool_choice` that leaves only some of the tools. For the OpenAPI document only."""

    type: Literal["allowed_tools"] = "allowed_tools"
    allowed_tools: AllowedTools = Field(default_factory=AllowedTools)


_ChoiceInput = Literal["auto", "none", "required"] | NamedToolChoice | AllowedToolsChoice | None
RuleValue = Annotated[ToolRule | None, PlainValidator(parse_tool_rule, json_schema_input_type=_ChoiceInput)]
FlatRuleValue = Annotated[ToolRule | None, PlainValidator(parse_flat_rule, json_schema_input_type=_ChoiceInput)]
FunctionCallRule = Annotated[
    ToolRule | None,
    PlainValidator(parse_function_call, json_schema_input_type=Literal["auto", "none"] | FunctionName | None),
]
