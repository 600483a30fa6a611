"""Writes the answers of `/v1/chat/completions`, whole and streamed.

`event` runs once for each streamed token, so what all chunks share is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine.api import CallPart, Delta, Final, Progress, PromptRead, Rendered, ToolCall
from server.http.json_output import encode, encode_text
from server.ollama.writer import debug_info
from server.openai.logprobs import content_logprobs
from server.openai.usage import usage_of
from server.openai.writer import ChoicesWriter

_EMPTY = b'"content":""'


class ChatWriter(ChoicesWriter):
    """Writes the answers to a chat. With `functions` calls are in the old form."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, *, functions: bool = False, **common: Any) -> None:
        super().__init__(model, **common)
        self._functions = functions
        self._begun: set[int] = set()  # choices with a chunk
        self._announced: set[tuple[int, int]] = set()  # choice and index of calls that were written in parts

    def rendered(self, rendered: Rendered) -> bytes:
        """The object with the rendered prompt, and an empty answer."""
        choice = {"index": 0, "message": {"role": "", "content": ""}, "finish_reason": None}
        head = {**self.head, "object": self.kind}
        return encode({**head, "choices": [choice], "usage": usage_of({}), "_debug_info": debug_info(rendered)}) + b"\n"

    def progress(self, index: int, progress: Progress) -> bytes:
        """A chunk without text, as llama.cpp's server has it, which tells of prompts alone."""
        if not isinstance(progress, PromptRead):
            return b""
        told = {
            "total": progress.total,
            "cache": progress.cached,
            "processed": progress.processed,
            "time_ms": round(progress.duration / 1e6, 3),
        }
        return self._chunk(index, _EMPTY, tail=b'],"prompt_progress":' + encode(told) + b"}")

    def chunks(self, index: int, delta: Delta) -> bytes:
        """The chunks of a piece: reasoning comes before the rest, and each part of a call alone."""
        pieces = list(self._pieces(index, delta))
        if not delta.logprobs:
            return b"".join([self._chunk(index, piece) for piece in pieces])
        *others, last = pieces or [_EMPTY]
        logprobs = b',"logprobs":' + encode(content_logprobs(delta.logprobs))
        return b"".join([self._chunk(index, piece) for piece in others]) + self._chunk(index, last, logprobs)

    def _pieces(self, index: int, delta: Delta) -> Iterator[bytes]:
        """The members of the delta of each chunk."""
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

    def last_chunk(self, index: int, final: Final) -> bytes:
        """The chunk with the reason of the end, behind an empty one if there was none before."""
        empty = b"" if index in self._begun else self._chunk(index, _EMPTY)
        reason = self._finish_reason(final)
        return empty + self.frame(b'{"index":%d,"delta":{},"finish_reason":"%b"}' % (index, reason.encode()))

    def _chunk(self, index: int, members: bytes, logprobs: bytes = b"", tail: bytes = b"") -> bytes:
        """A chunk of a choice; the first says whose words these are. `tail` is as in `frame`."""
        role = b"" if index in self._begun else b'"role":"assistant",'
        self._begun.add(index)
        choice = b'{"index":%d,"delta":{%b%b},"finish_reason":null%b}' % (index, role, members, logprobs)
        return self.frame(choice, tail)

    def _finish_reason(self, final: Final) -> str:
        if self._functions and final.done_reason == "tool_calls":
            return "function_call"
        return final.done_reason

    def choice(self, index: int, delta: Delta, final: Final) -> dict[str, Any]:
        """A whole choice."""
        message: dict[str, Any] = {"role": "assistant", "content": delta.content}
        if delta.thinking:
            message |= {"reasoning": delta.thinking, "reasoning_content": delta.thinking}
        message |= self._called([*map(_call, delta.tool_calls), *map(_call_part, delta.call_parts)])
        choice = {"index": index, "message": message, "finish_reason": self._finish_reason(final)}
        return choice | ({"logprobs": content_logprobs(delta.logprobs)} if delta.logprobs else {})


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": encode(call.arguments).decode()}
    return {"id": call.id, "index": call.index, "type": "function", "function": function}


def _call_part(part: CallPart) -> dict[str, Any]:
    if part.id:
        function = {"name": part.name, "arguments": part.arguments}
        return {"id": part.id, "index": part.index, "type": "function", "function": function}
    return {"index": part.index, "function": {"arguments": part.arguments}}
