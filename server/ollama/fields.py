"""Fields shared by request bodies: `keep_alive`, `think`, `format`, `tool_choice`, images, messages, tools."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from engine.api import Message, NamedTool, Think, Tool, ToolCall, ToolChoice
from modelfile.conversation import Property
from modelfile.text import cut, quote
from server.duration import parse_duration
from server.http.base64_text import decode_base64
from server.http.body import FIRST_ERROR, Body, go_list, mismatch

_MALFORMED = "Value looks like object, but can't find closing '}' symbol"
_LEVELS = ("high", "medium", "low", "max")
_THINK_HELP = '"high", "medium", "low", "max", true, or false'
_LONGEST = (2**63 - 1) / 1e9  # seconds: Go's longest duration
_UINT8 = range(256)


def parse_keep_alive(value: Any) -> float:
    """Seconds: a number, or a Go duration as text. Negative means forever (inf). Raises ValueError."""
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value if abs(value) <= _LONGEST else math.copysign(math.inf, value)
    else:
        raise ValueError(f"Unsupported type: '{go_type(value)}'")
    return math.inf if seconds < 0 or seconds > _LONGEST else float(seconds)


def go_type(value: Any) -> str:
    """The Go type into which a JSON value is decoded where any is taken."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float64"
    if isinstance(value, str):
        return "string"
    return "<nil>" if value is None else "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"


def parse_think(value: Any) -> Think:
    """On, off, or a level. Raises ValueError."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"think must be a boolean or string ({_THINK_HELP})")
    if value not in _LEVELS:
        raise ValueError(f"invalid think value: {quote(cut(value))} (must be {_THINK_HELP})")
    return value  # type: ignore[return-value]  # one of the literals, as just checked


def parse_format(value: Any) -> str | None:
    """The constraint as JSON text, keys in the order of the request; "" means none."""
    if isinstance(value, str):
        value = cut(value)  # only "json" is known; what is longer is refused for its beginning
    return None if value == "" else msgspec.json.encode(value).decode()


NAMED_FUNCTION = '{"type":"function","function":{"name":…}}'
_WORDS: Mapping[str, ToolChoice] = {"": "auto", "auto": "auto", "none": "none", "required": "required"}


def parse_tool_choice(value: Any, function: str = NAMED_FUNCTION) -> ToolChoice:
    """A word, or the function that must be called; "" means auto.

    Raises ValueError, whose text shows `function` as the form of the latter.
    """
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    match value:
        case {"type": "function", "function": {"name": str(name)}}:
            return NamedTool(name)
    shown = json.dumps(cut(value) if isinstance(value, str) else value, ensure_ascii=False)
    raise ValueError(f'invalid tool_choice: {cut(shown)} (must be "auto", "none", "required" or {function})')


def _parse_image(value: Any) -> bytes:
    if isinstance(value, list):
        return bytes(0 if item is None else _byte(item) for item in value)
    if not isinstance(value, str):
        raise mismatch(value, "api.ImageData")
    return decode_base64(value)


def _byte(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _UINT8:
        raise mismatch(value, "uint8")
    return value


def _object(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(_MALFORMED)
    return value


class NamedFunction(Body):
    """The function named by a `tool_choice`."""

    name: str = ""


class NamedToolChoice(Body):
    """A `tool_choice` that names a function. For the OpenAPI document only; `parse_tool_choice` reads it."""

    type: Literal["function"] = "function"
    function: NamedFunction = Field(default_factory=NamedFunction)


class RegexFormat(Body):
    """A `format`: texts that a pattern matches as a whole. This and the others are for the OpenAPI document only."""

    type: Literal["regex"]
    pattern: str


class ChoiceFormat(Body):
    """A `format`: one of some texts."""

    type: Literal["choice"]
    choices: list[str] = Field(min_length=1)


class GBNFFormat(Body):
    """A `format`: texts of a grammar as llama.cpp writes it, from its rule `root`."""

    type: Literal["gbnf"]
    grammar: str


class LarkFormat(Body):
    """A `format`: texts of a grammar in llguidance's dialect of Lark, from its rule `start`."""

    type: Literal["lark"]
    grammar: str


_AnyFormat = Literal["json", ""] | RegexFormat | ChoiceFormat | GBNFFormat | LarkFormat | dict[str, Any] | None

KeepAlive = Annotated[float | None, PlainValidator(parse_keep_alive, json_schema_input_type=float | str | None)]
ThinkValue = Annotated[
    Think | None, PlainValidator(parse_think, json_schema_input_type=bool | Literal["high", "medium", "low", "max"])
]
Format = Annotated[str | None, PlainValidator(parse_format, json_schema_input_type=_AnyFormat)]
Choice = Annotated[
    ToolChoice,
    PlainValidator(
        parse_tool_choice, json_schema_input_type=Literal["auto", "none", "required"] | NamedToolChoice | None
    ),
]
Int = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Texts = Annotated[list[str], FIRST_ERROR, go_list("[]string", "")]
Options = dict[str, Any]
_Image = Annotated[bytes, PlainValidator(_parse_image, json_schema_input_type=str)]
Images = Annotated[tuple[_Image, ...], Field(strict=False), FIRST_ERROR, go_list("[]api.ImageData", "")]


class CalledFunction(Body):
    """The function of a tool call."""

    go: ClassVar[str] = "api.ToolCallFunction"

    index: Int = 0
    name: str = ""
    arguments: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(default_factory=dict)


class Call(Body):
    """A tool call in an earlier message."""

    go: ClassVar[str] = "api.ToolCall"

    id: str = ""
    function: CalledFunction = Field(default_factory=CalledFunction)


class MessageBody(Body):
    """One message of a conversation."""

    go: ClassVar[str] = "api.Alias"

    role: str = ""
    content: str = ""
    thinking: str = ""
    images: Images = ()
    tool_calls: Annotated[list[Call], FIRST_ERROR, go_list("[]api.ToolCall", {})] = Field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""

    def message(self) -> Message:
        """The message for the engine, its role in lower case."""
        return Message(
            role=self.role.lower(),
            content=self.content,
            thinking=self.thinking,
            images=self.images,
            tool_calls=tuple(
                ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
                for call in self.tool_calls
            ),
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
        )


MAX_ITEMS = 4096
"""Most messages, and most tools, of a request."""


def at_most(what: str) -> BeforeValidator:
    """Reject a list of more than MAX_ITEMS before its items are parsed."""

    def checked(value: list[Any]) -> list[Any]:
        if len(value) > MAX_ITEMS:
            raise ValueError(f"too many {what}: {len(value)}, at most {MAX_ITEMS} are accepted")
        return value

    return BeforeValidator(checked)


Messages = Annotated[list[MessageBody], FIRST_ERROR, at_most("messages"), go_list("[]api.Message", {})]


def _parse_property_type(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list):
        raise mismatch(value, "[]string")
    for item in value:
        if item is not None and not isinstance(item, str):
            raise mismatch(item, "string")
    return [item or "" for item in value]


class PropertyBody(Body):
    """The schema of one parameter of a tool: the keys that templates see."""

    go: ClassVar[str] = "api.ToolProperty"

    anyOf: Annotated[list[PropertyBody], FIRST_ERROR, go_list("[]api.ToolProperty", {})] = Field(default_factory=list)
    type: Annotated[list[str], PlainValidator(_parse_property_type, json_schema_input_type=str | list[str])] = Field(
        default_factory=list
    )
    items: Any = None
    description: str = ""
    enum: Annotated[list[Any], go_list("[]interface {}", None)] = Field(default_factory=list)
    properties: Properties | None = None
    required: Texts = Field(default_factory=list)

    def property(self) -> Property:
        """The schema as the engine's type."""
        return Property(
            any_of=tuple(schema.property() for schema in self.anyOf),
            type=tuple(self.type),
            items=self.items,
            description=self.description,
            enum=tuple(self.enum),
            properties=_by_name(self.properties),
            required=tuple(self.required),
        )


def _by_name(properties: Mapping[str, PropertyBody] | None) -> dict[str, Property] | None:
    return None if properties is None else {name: schema.property() for name, schema in properties.items()}


def _one_by_one(value: dict[str, Any], handler: ValidatorFunctionWrapHandler) -> dict[str, PropertyBody]:
    """Read each property alone: stops at the first wrong one, and lets other threads run."""
    properties: dict[str, PropertyBody] = {}
    for name, item in value.items():
        properties |= handler({name: item})
    return properties


Properties = Annotated[dict[str, PropertyBody], WrapValidator(_one_by_one), BeforeValidator(_object)]
PropertyBody.model_rebuild()


class ParametersBody(Body):
    """The parameters of a tool: the keys that templates see, and the schema as it was sent."""

    go: ClassVar[str] = "api.ToolFunctionParameters"

    type: str = ""
    defs: Any = Field(default=None, alias="$defs")
    items: Any = None
    required: Texts = Field(default_factory=list)
    properties: Properties | None = None
    _sent: Any = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler[ParametersBody]) -> ParametersBody:
        body = handler(value)
        if isinstance(value, dict):
            body._sent = value
        return body

    @property
    def sent(self) -> Any:
        """The schema as it was sent."""
        return self._sent


class FunctionBody(Body):
    """The function of a tool."""

    go: ClassVar[str] = "api.ToolFunction"

    name: str = ""
    description: str = ""
    parameters: ParametersBody = Field(default_factory=ParametersBody)


class ToolBody(Body):
    """A tool that the model may call."""

    go: ClassVar[str] = "api.Tool"

    type: str = ""
    items: Any = None
    function: FunctionBody = Field(default_factory=FunctionBody)
    _tool: Tool = PrivateAttr()

    @property
    def tool(self) -> Tool:
        """The tool for the engine."""
        return self._tool

    def model_post_init(self, _: Any) -> None:
        """Make the tool here, because large bodies are decoded off the event loop."""
        parameters = self.function.parameters
        self._tool = Tool(
            name=self.function.name,
            description=self.function.description,
            type=self.type,
            items=self.items,
            parameters_type=parameters.type,
            parameters_items=parameters.items,
            defs=parameters.defs,
            required=tuple(parameters.required),
            properties=_by_name(parameters.properties),
            sent=parameters.sent,
        )


def first_double(names: Iterable[str]) -> str:
    """The first name that is there twice, "" if all are different."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


Tools = Annotated[list[ToolBody], FIRST_ERROR, at_most("tools"), go_list("api.Tools", {})]
