"""The input of `/v1/responses`: its items, and the messages that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import Field, PlainValidator

from engine.api import Message, ToolCall
from modelfile.text import cut, quote
from server.http.body import FIRST_ERROR, Body, FieldError, describe, go_list, go_text, parse_each, validated
from server.ollama.fields import MAX_ITEMS
from server.openai.content import Content, decode_image, join_parts
from server.openai.messages import check_role
from server.openai.responses_tools import INPUT, flat_name

_OPENAI_CIPHER = "gAAAA"  # OpenAI's own encrypted reasoning begins so; nobody else can read it


class InputText(Body):
    """Text in a message."""

    go: ClassVar[str] = "openai.ResponsesTextContent"

    type: Literal["input_text", "output_text", "text"] = "input_text"
    text: str = ""


class Refusal(Body):
    """An answer that the model refused to give."""

    go: ClassVar[str] = "openai.ResponsesRefusalContent"

    type: Literal["refusal"] = "refusal"
    refusal: str = ""


class InputImage(Body):
    """An image in a message, as a data URL."""

    go: ClassVar[str] = "openai.ResponsesImageContent"

    type: Literal["input_image"] = "input_image"
    image_url: str = ""


class _Kind(Body):
    """What tells which kind of item or part an object is."""

    go: ClassVar[str] = "openai.ResponsesInputItem"

    type: str = ""
    role: str = ""


def _parser(name: str) -> Callable[[Any], Content]:
    """A parser for the field `name`, which holds a text or a list of parts."""

    def parse(value: Any) -> Content:
        return Content(value) if isinstance(value, str) else join_parts(parse_each(name, _list(name, value), _part))

    return parse


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        go = "[]json.RawMessage"
        raise FieldError(f"{name} must be a string or array: {go_text(describe(value, go), '', go)}")
    return value


def _part(value: Any) -> Content:
    match kind := validated(value, _Kind).type:
        case "input_text" | "output_text" | "text":
            return Content(validated(value, InputText).text)
        case "refusal":
            return Content(validated(value, Refusal).refusal)
        case "input_image":
            return Content(images=(decode_image(validated(value, InputImage).image_url),))
        case "input_file":
            raise FieldError("file inputs are not currently supported")
    raise FieldError(f"unknown content type: {cut(kind)}")


_Parts = str | list[InputText | Refusal | InputImage]
_MessageContent = Annotated[Content, PlainValidator(_parser("content"), json_schema_input_type=_Parts)]
_ToolOutput = Annotated[Content, PlainValidator(_parser("output"), json_schema_input_type=_Parts)]


class Item(Body):
    """An item of the input."""

    def add_to(self, conversation: Conversation) -> None:
        """Add what the item stands for. Raises ValueError."""


class MessageItem(Item):
    """A message. `type` may be missing."""

    go: ClassVar[str] = "openai.ResponsesInputMessage"

    type: Literal["message"] = "message"
    role: str = ""
    content: _MessageContent = Content()

    def add_to(self, conversation: Conversation) -> None:
        """Add the message."""
        check_role(self.role, "role")
        conversation.add(self.role.lower(), self.content)


class FunctionCallItem(Item):
    """A call that the model made earlier. `arguments` is a JSON object as text."""

    go: ClassVar[str] = "openai.ResponsesFunctionCall"

    type: Literal["function_call"] = "function_call"
    call_id: str = ""
    namespace: str = ""
    name: str = ""
    arguments: str = ""

    def add_to(self, conversation: Conversation) -> None:
        """Add the call."""
        conversation.call(self.call_id, flat_name(self.namespace, self.name), _arguments(self.arguments))


class CustomToolCallItem(Item):
    """A call of a custom tool that the model made earlier."""

    go: ClassVar[str] = "openai.ResponsesCustomToolCall"

    type: Literal["custom_tool_call"] = "custom_tool_call"
    call_id: str = ""
    namespace: str = ""
    name: str = ""
    input: str = ""

    def add_to(self, conversation: Conversation) -> None:
        """Add the call."""
        conversation.call(self.call_id, flat_name(self.namespace, self.name), {INPUT: self.input})


class CallOutputItem(Item):
    """What a called tool has returned."""

    go: ClassVar[str] = "openai.ResponsesFunctionCallOutput"

    type: Literal["function_call_output", "custom_tool_call_output"] = "function_call_output"
    call_id: str = ""
    output: _ToolOutput = Content()

    def add_to(self, conversation: Conversation) -> None:
        """Add the tool's message."""
        conversation.result(self.call_id, self.output)


class ReasoningText(Body):
    """A piece of reasoning."""

    go: ClassVar[str] = "openai.ResponsesReasoningSummary"

    type: Literal["summary_text", "reasoning_text"] = "summary_text"
    text: str = ""


_Texts = Annotated[list[ReasoningText], FIRST_ERROR, go_list("[]openai.ResponsesReasoningSummary", {})]


class ReasoningItem(Item):
    """Reasoning before what the assistant said or called next; from this server, `encrypted_content` is plain text."""

    go: ClassVar[str] = "openai.ResponsesReasoningInput"

    type: Literal["reasoning"] = "reasoning"
    encrypted_content: str = ""
    content: _Texts = Field(default_factory=list)
    summary: _Texts = Field(default_factory=list)

    def add_to(self, conversation: Conversation) -> None:
        """Keep the reasoning for the assistant's next message."""
        own = "" if self.encrypted_content.startswith(_OPENAI_CIPHER) else self.encrypted_content
        conversation.think(own or _joined(self.content) or _joined(self.summary))


class WebSearchCallItem(Item):
    """A search that another server has made; it is skipped."""

    type: Literal["web_search_call"] = "web_search_call"


def _joined(pieces: Iterable[ReasoningText]) -> str:
    return "\n".join(piece.text for piece in pieces)


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(text.encode("utf-8", "replace")) if text else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise FieldError("function call arguments must be a JSON object", "arguments")
    return arguments


_KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "function_call_output": CallOutputItem,
    "custom_tool_call": CustomToolCallItem,
    "custom_tool_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
    "web_search_call": WebSearchCallItem,
}
InputItem = MessageItem | FunctionCallItem | CallOutputItem | CustomToolCallItem | ReasoningItem | WebSearchCallItem


def _item(value: Any) -> Item:
    head = validated(value, _Kind)
    kind = head.type or ("message" if head.role else "")
    if not kind:
        raise FieldError("input item missing required 'type' field")
    if kind == "item_reference":
        raise FieldError("item_reference is not supported: no items are stored; send the item itself", "type")
    if kind not in _KINDS:
        raise FieldError(f"unknown input item type: {quote(cut(kind))}")
    return validated(value, _KINDS[kind])


class Conversation:
    """Collects the messages of items: what the assistant says and then calls is one message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thinking = ""
        self._names: dict[str, str] = {}  # of called tools, by the id of the call

    def add(self, role: str, content: Content) -> None:
        """A message. Reasoning before a message that is not the assistant's is dropped."""
        thinking, self._thinking = self._thinking, ""
        kept = thinking if role == "assistant" else ""
        self.messages.append(Message(role, content.text, kept, content.images))

    def think(self, thinking: str) -> None:
        """Reasoning before the assistant's next message."""
        self._thinking = "\n".join(filter(None, (self._thinking, thinking)))

    def call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """A tool call, in the assistant's message before it unless new reasoning lies between."""
        self._names[call_id] = name
        if self._thinking or not self.messages or self.messages[-1].role != "assistant":
            self.add("assistant", Content())
        last = self.messages[-1]
        call = ToolCall(name, arguments, call_id, len(last.tool_calls))
        self.messages[-1] = replace(last, tool_calls=(*last.tool_calls, call))

    def result(self, call_id: str, content: Content) -> None:
        """The result of a tool call."""
        self.add("tool", content)
        self.messages[-1] = replace(self.messages[-1], tool_name=self._names.get(call_id, ""), tool_call_id=call_id)

    def end(self) -> list[Message]:
        """The messages. Reasoning at the end is an answer that has begun."""
        if self._thinking:
            self.add("assistant", Content())
        return self.messages


def parse_input(value: Any) -> Sequence[Message]:
    """The messages of an input: a text of the user, or items. Raises FieldError."""
    if isinstance(value, str):
        return [Message("user", value)] if value else []
    items = _list("input", value)
    if len(items) > MAX_ITEMS:
        raise FieldError(f"too many input items: {len(items)}, at most {MAX_ITEMS} are accepted")
    conversation = Conversation()
    parse_each("input", items, lambda item: _item(item).add_to(conversation))
    if items and not conversation.messages:  # only reasoning, or what is skipped
        raise FieldError("input has no content that a model can read")
    return conversation.end()


Input = Annotated[Sequence[Message], PlainValidator(parse_input, json_schema_input_type=str | list[InputItem] | None)]
