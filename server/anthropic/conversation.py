"""Requests of `/v1/messages` as the engine takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.api import ChatRequest, Message, Think, ToolCall
from modelfile.text import cut, quote
from server.anthropic.blocks import (
    Block,
    CallBlock,
    OtherBlock,
    ThinkingBlock,
    ToolResultBlock,
    WebSearchError,
    WebSearchResultBlock,
    images_of,
    text_of,
)
from server.anthropic.schemas import MessagesBody, PromptBody, TurnBody
from server.http.errors import HTTPError
from server.ollama.fields import first_double, parse_format

_BILLING = "x-anthropic-billing-header:"
_DEFAULTS = {"repeat_penalty": 1.0}  # Anthropic's API knows no such penalty


def chat_request(body: PromptBody) -> ChatRequest:
    """The request for the engine. Raises HTTPError."""
    system = system_prompt(body.system)
    if double := first_double(tool.name for tool in body.tools):
        raise HTTPError(f"tools: {quote(cut(double))} is there twice", "tools")
    output_format = body.output_config.format or body.output_format
    return ChatRequest(
        model=body.model,
        messages=[*([Message("system", system)] if system else ()), *_messages(body.messages)],
        tools=tuple(tool.tool for tool in body.tools if tool.tool is not None),
        tool_choice=body.tool_choice.choice,
        parallel_tool_calls=not body.tool_choice.disable_parallel_tool_use,
        options=_options(body),
        defaults=_DEFAULTS,
        keep_alive=body.keep_alive,
        think=_think(body),
        thinking_budget=body.thinking.budget_tokens,
        format=None if output_format is None else parse_format(output_format.schema_),
        truncate=body.truncate,
    )


def system_prompt(blocks: Sequence[Block]) -> str:
    """The text of system blocks, without the ones that only tell Anthropic whom to bill.

    Their text is another one in each request, so no prompt would begin as the last one did.
    """
    texts = (text_of([block]) for block in blocks)
    return "".join(text for text in texts if not text.startswith(_BILLING))


def caches(body: PromptBody) -> bool:
    """Whether the request has a `cache_control` somewhere."""
    blocks = [*body.system, *(block for message in body.messages for block in message.content or ())]
    inner = [part for block in blocks if isinstance(block, ToolResultBlock) for part in block.content]
    return any(item.cache_control is not None for item in (body, *body.tools, *blocks, *inner))


def _options(body: PromptBody) -> dict[str, Any]:
    options = dict(body.options)
    if body.num_ctx is not None:
        options["num_ctx"] = body.num_ctx
    if isinstance(body, MessagesBody):
        sent = {
            "num_predict": body.max_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
            "stop": body.stop_sequences,
        }
        options |= {name: value for name, value in sent.items() if value is not None}
    return options


def _think(body: PromptBody) -> Think | None:
    match body.thinking.type, body.output_config.effort:
        case "enabled", _:
            return True
        case "disabled", _:
            return False
        case _, "low" | "medium" | "high" | "max" as effort:
            return effort
        case _, "xhigh":
            return "high"
    return None


def _messages(bodies: Iterable[TurnBody]) -> list[Message]:
    conversation = _Conversation()
    for index, body in enumerate(bodies):
        if body.content is None:
            field_name = f"messages[{index}].content"
            raise HTTPError(f"unexpected end of JSON input: {field_name} is missing", field_name)
        if body.role == "system":
            if text := system_prompt(body.content):
                conversation.messages.append(Message("system", text))
        else:
            conversation.add(body.role, body.content)
    return conversation.messages


@dataclass(slots=True)
class _Turn:
    """What one message of the engine is made of."""

    blocks: list[Block] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)


class _Conversation:
    """Collects the engine's messages. One of Anthropic's becomes several only around results of tools."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._names: dict[str, str] = {}  # of called tools, by the ids of the calls

    def add(self, role: str, blocks: Sequence[Block]) -> None:
        """Add a message. Results of tools come before its text."""
        turn = _Turn()
        for block in blocks:
            match block:
                case CallBlock(id=str(call_id), name=str(name)):
                    self._names[call_id] = name
                    turn.calls.append(ToolCall(name, block.arguments, call_id, len(turn.calls)))
                case ToolResultBlock():
                    text = _result_text(block)
                    self._add_result(block.tool_use_id, text, images_of(block.content))
                case WebSearchResultBlock():  # it stands between the call and the text of one answer
                    self._close(role, turn)
                    turn = _Turn()
                    self._add_result(block.tool_use_id, _search_text(block))
                case OtherBlock():
                    pass
                case _:
                    turn.blocks.append(block)
        self._close(role, turn)

    def _add_result(self, call_id: str, text: str, images: tuple[bytes, ...] = ()) -> None:
        name = self._names.get(call_id, "")
        self.messages.append(Message("tool", text, images=images, tool_name=name, tool_call_id=call_id))

    def _close(self, role: str, turn: _Turn) -> None:
        if turn.blocks or turn.calls:
            message = Message(
                role,
                text_of(turn.blocks),
                thinking="".join(block.thinking for block in turn.blocks if isinstance(block, ThinkingBlock)),
                images=images_of(turn.blocks),
                tool_calls=tuple(turn.calls),
            )
            self.messages.append(message)


def _result_text(block: ToolResultBlock) -> str:
    """The result of a tool; one that has failed says so."""
    text = text_of(block.content)
    return f"Error: {text}" if block.is_error and not text.lower().startswith("error") else text


def _search_text(block: WebSearchResultBlock) -> str:
    if isinstance(block.content, WebSearchError):
        return f"Error: {block.content.error_code}"
    return "\n".join(f"{page.title}: {page.url}" for page in block.content)
