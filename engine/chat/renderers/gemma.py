"""Gemma 4 and FunctionGemma: tool results inside of the model's turn, values in a notation of Gemma's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.api import Message, ToolCall
from engine.chat.prompt import tag_images, tags_first_spaced
from engine.chat.renderers.family import Chat, NamedRenderer, last_user
from engine.chat.renderers.jsontext import free, is_composite, number, scalar_text, text_or_json
from modelfile.conversation import Property, Tool
from modelfile.text import SPACES

# Gemma's notation for values: strings between two marks, keys bare and sorted.

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class GemmaValues:
    """Writes values: `mark` stands around a string, `null` for null, `key` writes the key of an object."""

    mark: str
    null: str
    key: Callable[[str], str] = str

    def text(self, text: str) -> str:
        """A string."""
        return f"{self.mark}{text}{self.mark}"

    def texts(self, texts: Iterable[str]) -> str:
        """A list of strings."""
        return f"[{','.join(map(self.text, texts))}]"

    def value(self, value: Any) -> str:
        """Any JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return "{" + self.members(value) + "}"
        if isinstance(value, list | tuple):
            return f"[{','.join(map(self.value, value))}]"
        return self.null if value is None else _scalar(value)

    def members(self, value: dict[str, Any]) -> str:
        """The members of an object, without its braces."""
        return ",".join(f"{self.key(name)}:{self.value(value[name])}" for name in sorted(value))

    def tool(self, tool: Tool, properties: str) -> str:
        """A function's description and schema; `properties` is the text of its properties."""
        members = {"properties": properties} if tool.properties else {}
        if tool.required:
            members["required"] = self.texts(tool.required)
        if tool.parameters_type:
            members["type"] = self.text(tool.parameters_type.upper())
        schema = ",".join(f"{name}:{text}" for name, text in members.items())
        declares = tool.properties is not None or tool.parameters_type
        parameters = f",parameters:{{{schema}}}" if declares else ""
        return f"{{description:{self.text(tool.description)}{parameters}}}"


def _scalar(value: Any) -> str:
    """A bool or a number; whole numbers within 64 bits without an exponent."""
    if not isinstance(value, bool):
        double = number(value)
        if -_INT64 <= double < _INT64 and double.is_integer():
            return str(int(double))
    return scalar_text(value)


# Gemma 4's declarations of tools: a JSON Schema in Gemma's notation, its types in capitals.

MARK = '<|"|>'
_SCHEMA_VALUES = GemmaValues(MARK, null="null", key=lambda name: f"{MARK}{name}{MARK}")
_RESERVED = frozenset({"description", "type", "properties", "required", "nullable"})
Schema = dict[str, Any]


def declaration(tool: Tool) -> str:
    """The declaration of a tool."""
    properties = _members(_schemas(tool.properties or {}))
    return f"<|tool>declaration:{tool.name}{_SCHEMA_VALUES.tool(tool, properties)}<tool|>"


def _schemas(properties: Mapping[str, Property]) -> Schema:
    return {name: _schema(schema) for name, schema in properties.items()}


def _schema(schema: Property) -> Schema:
    """The schema of an argument as plain JSON, with a simple `anyOf` as a choice of types.

    Several types become one string that looks like a Python list, as in the family's template.
    """
    types = list(schema.type) or _simple_types(schema)
    quoted = ", ".join(f"'{name.upper()}'" for name in types)
    members = {
        "type": types[0] if len(types) == 1 else f"[{quoted}]",
        "description": schema.description,
        "enum": [free(value) for value in schema.enum],
        "items": free(schema.items),
        "properties": None if schema.properties is None else _schemas(schema.properties),
        "required": list(schema.required),
    }
    return members if types else {key: value for key, value in members.items() if key != "type"}


def _simple_types(schema: Property) -> list[str]:
    """The types of an `anyOf` whose options are types and nothing else."""
    if not all(option.type and option == Property(type=option.type) for option in schema.any_of):
        return []
    return list(dict.fromkeys(name for option in schema.any_of for name in option.type))


def _members(properties: Schema) -> str:
    """The schemas of an object's members; members named like a keyword of schemas are left out."""
    schemas = (
        f"{name}:{{{','.join(_fields(properties[name]))}}}"
        for name in sorted(properties)
        if name not in _RESERVED and isinstance(properties[name], dict)
    )
    return f"{{{','.join(schemas)}}}"


def _fields(schema: Schema) -> Iterator[str]:
    types = _types(schema.get("type"))
    first = types[0] if types else ""
    description, items, enum = schema.get("description"), schema.get("items"), schema.get("enum")
    if description and isinstance(description, str):
        yield f"description:{_SCHEMA_VALUES.text(description)}"
    if first == "STRING" and isinstance(enum, list) and enum:
        yield f"enum:{_SCHEMA_VALUES.texts(_enum_text(value) for value in enum)}"
    if first == "ARRAY" and isinstance(items, dict) and items:
        yield f"items:{{{','.join(_item_fields(items))}}}"
    if schema.get("nullable") is True:
        yield "nullable:true"
    if first == "OBJECT":
        nested = schema.get("properties")
        yield f"properties:{_members(nested if isinstance(nested, dict) else schema)}"
        if required := _texts(schema.get("required")):
            yield f"required:{_SCHEMA_VALUES.texts(required)}"
    if types:
        yield f"type:{_type_text(types)}"


def _item_fields(items: Schema) -> Iterator[str]:
    """The schema of a list's elements."""
    for key in sorted(key for key, value in items.items() if value is not None):
        value = items[key]
        match key:
            case "properties":
                yield f"properties:{_members(value) if isinstance(value, dict) else '{}'}"
            case "required":
                yield f"required:{_SCHEMA_VALUES.texts(_texts(value))}"
            case "type":
                yield f"type:{_type_text(_types(value))}"
            case _:
                yield f"{key}:{_SCHEMA_VALUES.value(value)}"


def _types(value: Any) -> list[str]:
    return [name.upper() for name in ([value] if isinstance(value, str) else _texts(value))]


def _type_text(types: list[str]) -> str:
    return _SCHEMA_VALUES.text(types[0]) if len(types) == 1 else _SCHEMA_VALUES.texts(types)


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _enum_text(value: Any) -> str:
    if value is None:
        return "<nil>"
    return text_or_json(value) if is_composite(value) else scalar_text(value)


_BOS, _START, _END = "<bos>", "<|turn>", "<turn|>\n"
_THOUGHT, _END_THOUGHT = "<|channel>thought\n", "<channel|>"
_OLD_THOUGHT = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)", re.DOTALL)
_RESPONSE = "<|tool_response>"
_VALUES = GemmaValues(MARK, null="null")


class Gemma4(NamedRenderer):
    """Never continues an answer; after a tool's result the model goes on in its own turn.

    `closes_reasoning`: without reasoning the prompt ends with an empty channel, as the large models were trained.
    """

    bos = _BOS

    def __init__(self, *, closes_reasoning: bool) -> None:
        self._closes_reasoning = closes_reasoning

    def parts(self, chat: Chat) -> Iterator[str]:
        """The system turn unless it would be empty, then the other turns."""
        system, rest = chat.split_system("system", "developer")
        thinks = chat.thinks(default=False)
        yield _BOS
        if system is not None or chat.tools or thinks:
            yield f"{_START}system\n" + ("<|think|>\n" if thinks else "") + (system or "").strip(SPACES)
            yield from map(declaration, chat.tools)
            yield _END
        turns = _turns(tag_images(map(_bare, rest), tags_first_spaced))
        question = last_user([turn.message for turn in turns])
        roles = ["", *(turn.message.role for turn in turns), ""]
        for at, turn in enumerate(turns):
            yield turn.text(roles[at], roles[at + 2], is_new=at > question)
        yield self._opening(turns[-1] if turns else None, thinks)

    def _opening(self, last: _Turn | None, thinks: bool) -> str:
        if last is not None and last.message.tool_calls:
            return _THOUGHT if last.results and thinks else ""
        closed = self._closes_reasoning and not thinks
        return f"{_START}model\n" + (_THOUGHT + _END_THOUGHT if closed else "")


@dataclass(slots=True)
class _Turn:
    """A message and the results of its calls."""

    message: Message
    results: list[Message]

    def text(self, before: str, after: str, *, is_new: bool) -> str:
        """The turn between messages of the roles `before` and `after`; `is_new`: behind the last question."""
        message = self.message
        is_model = message.role == "assistant"
        goes_on = is_model and before == "assistant"
        opening = "" if goes_on else f"{_START}{'model' if is_model else message.role}\n"
        reasoning = f"{_THOUGHT}{message.thinking}\n{_END_THOUGHT}" if is_model and message.thinking and is_new else ""
        calls = "".join(map(_call, message.tool_calls))
        results = "".join(_result(result, message.tool_calls) for result in self.results)
        return opening + reasoning + calls + results + message.content + self._end(after)

    def _end(self, after: str) -> str:
        if self.message.tool_calls and not self.results:
            return _RESPONSE
        goes_on = self.message.role == "assistant" and after == "assistant"
        waits = bool(self.results) and not self.message.content and not after
        return "" if goes_on or waits else _END


def _turns(messages: Sequence[Message]) -> list[_Turn]:
    """The messages as turns; results that answer no call are left out."""
    turns: list[_Turn] = []
    for message in messages:
        if message.role != "tool":
            turns.append(_Turn(message, []))
        elif turns and turns[-1].message.tool_calls:
            turns[-1].results.append(message)
    return turns


def _bare(message: Message) -> Message:
    """The message without whitespace around its content; an answer also without reasoning in it."""
    if message.role == "tool":
        return message
    content = _OLD_THOUGHT.sub("", message.content) if message.role == "assistant" else message.content
    return replace(message, content=content.strip(SPACES))


def _call(call: ToolCall) -> str:
    return f"<|tool_call>call:{call.name}{{{_VALUES.members(call.arguments)}}}<tool_call|>"


def _result(result: Message, calls: Sequence[ToolCall]) -> str:
    named = result.tool_name or "unknown"
    if result.tool_call_id:
        named = next((call.name for call in calls if call.id == result.tool_call_id), named)
    return f"{_RESPONSE}response:{named}{{value:{_VALUES.value(result.content)}}}<tool_response|>"


# FunctionGemma: Gemma's turns, tools in a developer's turn, values between `<escape>` marks.

_FUNCTION_BOS, _FUNCTION_START, _FUNCTION_END = "<bos>", "<start_of_turn>", "<end_of_turn>\n"
_FUNCTION_RESPONSE = "<start_function_response>"
_FUNCTIONS = "You can do function calling with the following functions:"
_FUNCTION_VALUES = GemmaValues("<escape>", null="<nil>")


class FunctionGemma(NamedRenderer):
    """Never continues an answer; tool results are part of the model's turn, which goes on behind them."""

    bos = _FUNCTION_BOS

    def parts(self, chat: Chat) -> Iterator[str]:
        """The developer's turn unless it would be empty, then the other turns."""
        system, rest = chat.split_system("system", "developer")
        yield _FUNCTION_BOS
        if system or chat.tools:
            yield _opening("developer") + _instructions(system or "", chat.tools) + _FUNCTION_END
        turns = _Turns()
        for at, message in enumerate(rest):
            yield turns.next(message, has_result=at + 1 < len(rest) and rest[at + 1].role == "tool")
        if not turns.answered:
            yield _opening("model")


class _Turns:
    """State of the model's turn: `_called` if a result follows at once, `answered` if one was written."""

    def __init__(self) -> None:
        self.answered = False
        self._called = False
        self._unanswered: list[ToolCall] = []

    def next(self, message: Message, *, has_result: bool) -> str:
        """The text of a message; `has_result`: the next message is a tool's result."""
        text = message.content.strip(SPACES)
        if message.role not in ("user", "assistant", "tool"):
            return _opening(message.role) + text + _FUNCTION_END
        if message.role == "tool":
            return self._result(message.content)
        opening = "" if self.answered else _opening("user" if message.role == "user" else "model")
        self.answered = self._called = False
        if message.role == "assistant" and message.tool_calls:
            text += "".join(map(_function_call, message.tool_calls))
            self._unanswered = list(message.tool_calls)
            self._called = has_result
        return opening + text + (_FUNCTION_RESPONSE if self._called else _FUNCTION_END)

    def _result(self, content: str) -> str:
        name = self._unanswered.pop(0).name if self._unanswered else ""
        opening = "" if self._called else _FUNCTION_RESPONSE
        self._called, self.answered = False, True
        return f"{opening}response:{name}{{{_FUNCTION_VALUES.value(content)}}}<end_function_response>"


def _opening(role: str) -> str:
    return f"{_FUNCTION_START}{role}\n"


def _instructions(system: str, tools: Sequence[Tool]) -> str:
    text = system.strip(SPACES)
    if not tools:
        return text
    gap = "\n" if system else ""
    return text + gap + (_FUNCTIONS if text != _FUNCTIONS else "") + "".join(map(_declaration, tools))


def _declaration(tool: Tool) -> str:
    properties = ",".join(_property(name, schema) for name, schema in sorted((tool.properties or {}).items()))
    members = _FUNCTION_VALUES.tool(tool, f"{{{properties}}}")
    return f"<start_function_declaration>declaration:{tool.name}{members}<end_function_declaration>"


def _property(name: str, schema: Property) -> str:
    type_ = f",type:{_FUNCTION_VALUES.text(schema.type[0].upper())}" if schema.type else ""
    return f"{name}:{{description:{_FUNCTION_VALUES.text(schema.description)}{type_}}}"


def _function_call(call: ToolCall) -> str:
    return f"<start_function_call>call:{call.name}{{{_FUNCTION_VALUES.members(call.arguments)}}}<end_function_call>"
