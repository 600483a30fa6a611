"""The messages of a chat, as OpenAI's clients send them, and as the engine takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, model_validator

from engine.api import Message, ToolCall
from modelfile.text import cut, quote
from server.http.body import FIRST_ERROR, Body, FieldError, go_list, mismatch
from server.http.json_input import JSONReader
from server.ollama.fields import Int, at_most
from server.openai.content import ContentValue

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check_role(role: str, param: str) -> None:
    """Raise FieldError unless the API has the role, in any case: templates leave out the messages of other roles."""
    if not role:
        raise FieldError("role is required", param)
    if role.lower() not in _ROLES:
        *others, last = map(quote, _ROLES)
        raise FieldError(f"invalid role: {quote(cut(role))} (must be {', '.join(others)} or {last})", param)


def parse_arguments(value: Any) -> dict[str, Any]:
    """The arguments of a call: a JSON object as text; "" means none. Raises ValueError."""
    if not isinstance(value, str):
        raise mismatch(value, "string")
    if not value.strip():
        return {}
    data = value.encode(errors="replace")
    reader = JSONReader(len(data))
    try:
        reader.feed(data)
        arguments = reader.value()
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError("invalid tool call arguments")
    return arguments


class CalledFunctionBody(Body):
    """The function of a call, its arguments as JSON text."""

    go: ClassVar[str] = "openai.ToolCallFunction"

    name: str = ""
    arguments: Annotated[dict[str, Any], PlainValidator(parse_arguments, json_schema_input_type=str)] = Field(
        default_factory=dict
    )


class ToolCallBody(Body):
    """A call that the model made."""

    go: ClassVar[str] = "openai.ToolCall"

    id: str = ""
    index: Int = 0
    type: str = "function"
    function: CalledFunctionBody = Field(default_factory=CalledFunctionBody)


class ChatMessage(Body):
    """One message of a chat.

    Earlier reasoning may be in `reasoning` or `reasoning_content`. `function_call` is the old form of `tool_calls`.
    """

    go: ClassVar[str] = "openai.Message"

    role: str = ""
    content: ContentValue = None
    name: str = ""
    reasoning: str = ""
    reasoning_content: str = ""
    refusal: str = ""
    tool_calls: Annotated[list[ToolCallBody], FIRST_ERROR, go_list("[]openai.ToolCall", {})] = Field(
        default_factory=list
    )
    function_call: CalledFunctionBody | None = None
    tool_call_id: str = ""

    @model_validator(mode="after")
    def _has_something(self) -> ChatMessage:
        check_role(self.role, ".role")
        others = (self.tool_calls, self.function_call, self.reasoning, self.reasoning_content, self.refusal)
        if self.content is None and "tool_calls" not in self.model_fields_set and not any(others):
            raise ValueError("invalid message content type: <nil>")
        return self

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls, in either form."""
        calls = [
            ToolCall(call.function.name, call.function.arguments, call.id, index)
            for index, call in enumerate(self.tool_calls)
        ]
        if not calls and self.function_call is not None:
            calls = [ToolCall(self.function_call.name, self.function_call.arguments)]
        return tuple(calls)

    def message(self, names: dict[str, str]) -> Message:
        """The message for the engine. `names` are those of the functions called earlier, by call id."""
        role = self.role.lower()
        is_result = role in ("tool", "function")
        return Message(
            role="tool" if is_result else role,
            content=self.refusal if self.content is None else self.content.text,
            thinking=self.reasoning or self.reasoning_content,
            images=() if self.content is None else self.content.images,
            tool_calls=self.calls,
            tool_name=(self.name or names.get(self.tool_call_id, "")) if is_result else "",
            tool_call_id=self.tool_call_id,
        )


ChatMessages = Annotated[list[ChatMessage], FIRST_ERROR, at_most("messages"), go_list("[]openai.Message", {})]


def conversation_of(bodies: Sequence[ChatMessage]) -> list[Message]:
    """The messages for the engine. Results of tools get the name of the function, by the last call with their id."""
    names: dict[str, str] = {}
    messages = []
    for body in bodies:
        message = body.message(names)
        names |= {call.id: call.name for call in message.tool_calls if call.id}
        messages.append(message)
    return messages
