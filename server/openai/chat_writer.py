"""Writes the answers of `/v1/chat/completions`, whole and streamed.

`event` runs once for each streamed token, so what all chunks share is encoded once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from engine.api import CallPart, Delta, Final, Rendered, ToolCall
from server.http.errors import ErrorInfo
from server.http.json_output import encode, encode_text
from server.http.streaming import Framing, Writer, joined
from server.ollama.writer import debug_info
from server.openai.choices import Numbered
from server.openai.errors import error_object
from server.openai.logprobs import content_logprobs
from server.openai.usage import head_of, usage_of

DONE = b"data: [DONE]\n\n"
JSON = "application/json"
_EMPTY = b'"content":""'


class ChatWriter(Writer[Numbered]):
    """Writes `count` choices. `ping`: what keeps a silent stream alive; `functions`: calls are in the old form."""

    error_media_type = JSON

    def __init__(
        self,
        model: str,
        *,
        stream: bool,
        count: int = 1,
        include_usage: bool = False,
        functions: bool = False,
        ping: bytes = b"",
    ) -> None:
        self.framing = Framing.SSE if stream else Framing.WHOLE
        self.media_type = "text/event-stream" if stream else JSON
        self._count = count
        self._include_usage = include_usage
        self._functions = functions
        self._ping = ping
        self._head = head_of("chatcmpl", "chat.completion.chunk" if stream else "chat.completion", model)
        self._encoded_head = encode(self._head)[:-1] + b',"choices":['
        self._deltas: dict[int, list[Delta]] = defaultdict(list)  # of whole answers
        self._finals: dict[int, Final] = {}
        self._begun: set[int] = set()  # choices with a chunk
        self._announced: set[tuple[int, int]] = set()  # choice and index of calls that were written in parts

    @staticmethod
    def error_object(info: ErrorInfo) -> dict[str, Any]:
        """OpenAI's error object."""
        return error_object(info)

    def ping(self) -> bytes:
        """A comment, or nothing for clients that fail on comments."""
        return self._ping

    def event(self, event: Numbered) -> bytes:
        """The chunks of a delta, or of the end of a choice; nothing without a stream."""
        index, piece = event
        if isinstance(piece, Final):
            self._finals[index] = piece
            return self._last_chunk(index, piece) if self.framing is Framing.SSE else b""
        if self.framing is Framing.SSE:
            return self._chunks(index, piece)
        self._deltas[index].append(piece)
        return b""

    def end(self) -> bytes:
        """The whole answer; or the token counts, if they are wanted, and the end of the stream."""
        if self.framing is Framing.WHOLE:
            choices = [self._choice(index) for index in range(self._count)]
            return encode({**self._head, "choices": choices, "usage": self._usage()}) + b"\n"
        counts = self.framing.frame(encode({**self._head, "choices": [], "usage": self._usage()}))
        return (counts if self._include_usage else b"") + DONE

    def rendered(self, rendered: Rendered) -> bytes:
        """The object with the rendered prompt, and an empty answer."""
        choice = {"index": 0, "message": {"role": "", "content": ""}, "finish_reason": None}
        head = {**self._head, "object": "chat.completion"}
        return encode({**head, "choices": [choice], "usage": usage_of({}), "_debug_info": debug_info(rendered)}) + b"\n"

    def _usage(self) -> dict[str, Any]:
        return usage_of(self._finals, self._count)

    def _chunks(self, index: int, delta: Delta) -> bytes:
        pieces = list(self._pieces(index, delta))
        if not delta.logprobs:
            return b"".join([self._chunk(index, piece) for piece in pieces])
        *others, last = pieces or [_EMPTY]
        logprobs = b',"logprobs":' + encode(content_logprobs(delta.logprobs))
        return b"".join([self._chunk(index, piece) for piece in others]) + self._chunk(index, last, logprobs)

    def _pieces(self, index: int, delta: Delta) -> Iterator[bytes]:
        """The members of the chunks of a delta: reasoning comes before the rest, and each part of a call alone."""
        first, *others = list(self._calls(index, delta)) or [()]
        if delta.thinking:
            reasoning = b'"reasoning":%b,"reasoning_content":%b' % ((encode_text(delta.thinking),) * 2)
            yield reasoning if delta.content or first else _EMPTY + b"," + reasoning
        if delta.content or first:
            yield b'"content":' + encode_text(delta.content) + self._call_members(first)
        for calls in others:
            yield _EMPTY + self._call_members(calls)

    def _calls(self, index: int, delta: Delta) -> Iterator[Sequence[dict[str, Any]]]:
        """The calls of each chunk: a part, then those that are complete and were not written in parts."""
        for part in delta.call_parts:
            self._announced.add((index, part.index))
            yield (_call_part(part),)
        if calls := [_call(call) for call in delta.tool_calls if (index, call.index) not in self._announced]:
            yield calls

    def _call_members(self, calls: Sequence[dict[str, Any]]) -> bytes:
        return b"," + encode(self._called(calls))[1:-1] if calls else b""

    def _called(self, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The calls in the form in which the client asked for them."""
        if not calls:
            return {}
        return {"function_call": calls[0]["function"]} if self._functions else {"tool_calls": calls}

    def _last_chunk(self, index: int, final: Final) -> bytes:
        empty = b"" if index in self._begun else self._chunk(index, _EMPTY)
        reason = self._finish_reason(final)
        return empty + self._frame(b'{"index":%d,"delta":{},"finish_reason":"%b"}' % (index, reason.encode()))

    def _chunk(self, index: int, members: bytes, logprobs: bytes = b"") -> bytes:
        """A chunk of a choice; the first says whose words these are."""
        role = b"" if index in self._begun else b'"role":"assistant",'
        self._begun.add(index)
        return self._frame(b'{"index":%d,"delta":{%b%b},"finish_reason":null%b}' % (index, role, members, logprobs))

    def _frame(self, choice: bytes) -> bytes:
        return b"data: " + self._encoded_head + choice + b"]}\n\n"

    def _finish_reason(self, final: Final) -> str:
        if self._functions and final.done_reason == "tool_calls":
            return "function_call"
        return final.done_reason

    def _choice(self, index: int) -> dict[str, Any]:
        delta = joined(self._deltas[index])
        message: dict[str, Any] = {"role": "assistant", "content": delta.content}
        if delta.thinking:
            message |= {"reasoning": delta.thinking, "reasoning_content": delta.thinking}
        message |= self._called([_call(call) for call in delta.tool_calls])
        choice = {"index": index, "message": message, "finish_reason": self._finish_reason(self._finals[index])}
        return choice | ({"logprobs": content_logprobs(delta.logprobs)} if delta.logprobs else {})


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": encode(call.arguments).decode()}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


def _call_part(part: CallPart) -> dict[str, Any]:
    if part.id:
        function = {"name": part.name, "arguments": part.arguments}
        return {"id": part.id, "index": part.index, "type": "function", "function": function}
    return {"index": part.index, "function": {"arguments": part.arguments}}
