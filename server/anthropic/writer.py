"""Writes answers of `/v1/messages`: whole, or as server-sent events."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from engine.api import CallPart, ChatRequest, Delta, Event, Final, Progress, ToolCall
from server.anthropic.errors import error_object
from server.http.errors import ErrorInfo
from server.http.json_output import encode, encode_text
from server.http.streaming import Framing, Writer, joined_parts

_PING = Framing.SSE.frame(b'{"type":"ping"}', "ping")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStyle:
    """How an answer is written.

    `model` is the name as the client sent it. `input_estimate` are the tokens of the prompt as far as they are known
    before it is read. `server_tools` are names of tools that the server was to run. `caches`: whether the token counts
    tell what came from the cache. `shows_thinking`: whether the text of the reasoning is sent.
    """

    model: str
    input_estimate: int = 1
    server_tools: frozenset[str] = frozenset()
    stop_sequences: Sequence[str] = ()
    caches: bool = False
    shows_thinking: bool = True


class _MessageWriter(Writer[Event]):
    """What whole and streamed answers share."""

    error_object = staticmethod(error_object)

    def __init__(self, style: AnswerStyle) -> None:
        self._style = style
        self._called = False

    def _message(self, content: list[Any], usage: dict[str, int], **end: str | None) -> dict[str, Any]:
        return {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": self._style.model,
            "content": content,
            **end,
            "usage": usage,
        }

    def _usage(self, final: Final) -> dict[str, int]:
        """Token counts. A client adds up the three counts of the input, if it has asked for a cache."""
        cached = final.prompt_eval_cached if self._style.caches else 0
        usage = {"input_tokens": final.prompt_eval_count - cached, "output_tokens": final.eval_count}
        if self._style.caches:
            usage |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}
        return usage

    def _end(self, final: Final) -> dict[str, str | None]:
        """Why the answer ended. The model's own stop texts end a turn like its end token.

        An answer that was cut is no `tool_use`: near its last token the arguments of a call are only made valid.
        """
        if final.done_reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if self._called:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        if final.stop_text and final.stop_text in self._style.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": final.stop_text}
        return {"stop_reason": "end_turn", "stop_sequence": None}

    def _shows(self, part: CallPart) -> bool:
        """Whether a call of this name is shown before it is complete."""
        return part.name not in self._style.server_tools

    def _call_blocks(self, call: ToolCall) -> list[dict[str, Any]]:
        """The block of a call; for a tool that the server was to run also its result, which is always an error."""
        called = {"id": call.id, "name": call.name, "input": call.arguments}
        if call.name not in self._style.server_tools:
            self._called = True
            return [{"type": "tool_use", **called}]
        failure = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
        return [
            {"type": "server_tool_use", **called},
            {"type": "web_search_tool_result", "tool_use_id": call.id, "content": failure},
        ]


class WholeMessageWriter(_MessageWriter):
    """Collects an answer and writes it as one object."""

    framing = Framing.WHOLE
    media_type = "application/json"

    def __init__(self, style: AnswerStyle) -> None:
        super().__init__(style)
        self._content: list[dict[str, Any]] = []
        self._texts: list[str] = []  # of the last block, of the kind `_kind`
        self._kind = ""
        self._parts: list[CallPart] = []  # of the call that is incomplete

    def event(self, event: Event) -> bytes:
        """Nothing for a delta, the whole object at the end."""
        if isinstance(event, Final):
            self._begin("")
            self._content += [_cut_block(part) for part in joined_parts(self._parts) if self._shows(part)]
            return encode(self._message(self._content, self._usage(event), **self._end(event)))
        if isinstance(event, Progress):  # this API does not ask for it
            return b""
        for kind, text in (("thinking", event.thinking), ("text", event.content)):
            if text:
                self._begin(kind)
                self._texts.append(text)
        self._parts += event.call_parts
        for call in event.tool_calls:
            self._parts.clear()
            self._begin("")
            self._content += self._call_blocks(call)
        return b""

    def _begin(self, kind: str) -> None:
        """Go on with a block of this kind: close the last one if it is of another."""
        if kind == self._kind:
            return
        if self._kind == "text":
            self._content.append({"type": "text", "text": "".join(self._texts)})
        elif self._kind == "thinking":
            thinking = "".join(self._texts)
            shown = thinking if self._style.shows_thinking else ""
            signature = _signature(hashlib.sha256(thinking.encode("utf-8", "replace")))
            self._content.append({"type": "thinking", "thinking": shown, "signature": signature})
        self._kind, self._texts = kind, []


class MessageStreamWriter(_MessageWriter):
    """Writes an answer as server-sent events, each block as it comes."""

    framing = Framing.SSE
    media_type = "text/event-stream"

    def __init__(self, style: AnswerStyle) -> None:
        super().__init__(style)
        self._started = False
        self._index = -1
        self._kind = ""  # of the open block
        self._open_call = ""  # the id of the call that is being written
        self._head = b""  # of an event with a piece of the open block
        self._digest = hashlib.sha256()

    def event(self, event: Event) -> bytes:
        """The events for a delta, or the end of the message."""
        if isinstance(event, Progress):  # this API does not ask for it
            return b""
        start = b"" if self._started else self._start()
        if isinstance(event, Final):
            delta = {"type": "message_delta", "delta": self._end(event), "usage": self._usage(event)}
            return start + self._close() + _named(delta) + _named({"type": "message_stop"})
        return start + self._pieces(event)

    def ping(self) -> bytes:
        """An event that clients skip."""
        return _PING

    def error(self, info: ErrorInfo) -> bytes:
        """An `error` event."""
        return _named(error_object(info))

    def _start(self) -> bytes:
        self._started = True
        usage = {"input_tokens": self._style.input_estimate, "output_tokens": 0}
        message = self._message([], usage, stop_reason=None, stop_sequence=None)
        return _named({"type": "message_start", "message": message})

    def _pieces(self, delta: Delta) -> bytes:
        written = b""
        if delta.thinking:
            written += self._begin("thinking")
            self._digest.update(delta.thinking.encode("utf-8", "replace"))
            written += self._piece(delta.thinking) if self._style.shows_thinking else b""
        if delta.content:
            written += self._begin("text") + self._piece(delta.content)
        for part in delta.call_parts:
            if part.id and self._shows(part):
                written += self._open({"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
                self._open_call = part.id
            if part.arguments and self._open_call:
                written += self._piece(part.arguments)
        for call in delta.tool_calls:
            written += self._call(call)
        return written

    def _call(self, call: ToolCall) -> bytes:
        """A complete call, or the end of the one whose parts were written."""
        blocks = self._call_blocks(call)
        if call.id and call.id == self._open_call:
            return self._close()
        written = b""
        for block in blocks:
            has_input = "input" in block
            written += self._open(block | {"input": {}} if has_input else block)
            written += self._piece(encode(block["input"]).decode()) if has_input else b""
            written += self._close()
        return written

    def _begin(self, kind: str) -> bytes:
        """Go on with a block of thinking or text: open one unless it is open."""
        if kind == self._kind:
            return b""
        return self._open({"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {}))

    def _open(self, block: dict[str, Any]) -> bytes:
        written = self._close()
        self._index += 1
        self._kind = kind = block["type"]
        delta, key = _DELTAS.get(kind, ("input_json_delta", "partial_json"))
        head = f'{{"type":"content_block_delta","index":{self._index},"delta":{{"type":"{delta}","{key}":'
        self._head = b"event: content_block_delta\ndata: " + head.encode()
        return written + _named({"type": "content_block_start", "index": self._index, "content_block": block})

    def _piece(self, text: str) -> bytes:
        return self._head + encode_text(text) + b"}}\n\n"

    def _close(self) -> bytes:
        """The end of the open block, if there is one; behind reasoning its signature."""
        if not self._kind:
            return b""
        written = b""
        if self._kind == "thinking":
            signature = {"type": "signature_delta", "signature": _signature(self._digest)}
            written = _named({"type": "content_block_delta", "index": self._index, "delta": signature})
            self._digest = hashlib.sha256()
        self._kind = self._open_call = ""
        return written + _named({"type": "content_block_stop", "index": self._index})


_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


def _cut_block(part: CallPart) -> dict[str, Any]:
    """The block of a call that the answer's end cuts. Its input has what can be read of the arguments."""
    try:
        arguments = from_json(part.arguments, allow_partial=True)
    except ValueError:
        arguments = {}
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}


def _named(event: dict[str, Any]) -> bytes:
    """A server-sent event with the name of its type."""
    return Framing.SSE.frame(encode(event), event["type"])


def _signature(digest: hashlib._Hash) -> str:
    """The signature of a block of reasoning. Clients demand one and send it back; nothing here depends on it."""
    return b64encode(digest.digest()).decode()


def estimated_tokens(request: ChatRequest) -> int:
    """About how many tokens a prompt has: a fourth of its bytes, without the markup of its template."""
    texts = [text for message in request.messages for text in (message.content, message.thinking)]
    texts += [message.role for message in request.messages if message.role != "system"]
    texts += [text for tool in request.tools for text in (tool.name, tool.description)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    size += sum(len(encode(tool.sent)) for tool in request.tools)
    return max(size // 4, 1)
