"""How `/api/generate` and `/api/chat` write an answer.

A streamed token costs one call of `line`, so what stays the same in all lines is encoded once.
"""

from __future__ import annotations

import time
from typing import Any

from engine.api import Delta, Final, Rendered, ToolCall
from server.gojson import encode, encode_text
from server.ollama.clock import utc_now

_NOT_DONE = b',"done":false}\n'


class _Writer:
    """What both endpoints share: the model's name as it was sent, the time of the start, the numbers at the end."""

    def __init__(self, model: str) -> None:
        self._start = time.perf_counter_ns()
        self._head = b'{"model":' + encode_text(model) + b',"created_at":"'

    def _object(self, body: bytes, fields: dict[str, Any]) -> bytes:
        """An object of the head, a piece of encoded JSON and further fields."""
        return self._head + utc_now().encode() + b'",' + body + b"," + encode(fields)[1:]

    def _metrics(self, final: Final) -> dict[str, Any]:
        """Counts and durations of a finished answer; zeros are left out."""
        metrics = {
            "total_duration": time.perf_counter_ns() - self._start,
            "load_duration": final.load_duration,
            "prompt_eval_count": final.prompt_eval_count,
            "prompt_eval_cached": final.prompt_eval_cached,
            "prompt_eval_duration": final.prompt_eval_duration,
            "eval_count": final.eval_count,
            "eval_duration": final.eval_duration,
        }
        return {name: value for name, value in metrics.items() if value}


class GenerateWriter(_Writer):
    """Answers of `/api/generate`. Tool calls, which few models make here, come with the final object."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._calls: list[ToolCall] = []

    def line(self, delta: Delta) -> bytes:
        """One line for a piece of the answer."""
        self._calls += delta.tool_calls
        text = encode_text(delta.content)
        if delta.thinking:
            text += b',"thinking":' + encode_text(delta.thinking)
        return self._head + utc_now().encode() + b'","response":' + text + _NOT_DONE

    def last_line(self, final: Final) -> bytes:
        """The line with the numbers."""
        return self._whole(Delta(tool_calls=tuple(self._calls)), final) + b"\n"

    def whole(self, delta: Delta, final: Final) -> bytes:
        """Text and numbers as one object."""
        return self._whole(delta, final)

    def notice(self, event: Final | Rendered) -> bytes:
        """A load, an unload, or the prompt that would have been run."""
        if isinstance(event, Rendered):
            return self._object(b'"response":""', {"done": False, "_debug_info": _debug_info(event)})
        return self._object(b'"response":""', {"done": True, "done_reason": event.done_reason})

    def _whole(self, delta: Delta, final: Final) -> bytes:
        text = b'"response":' + encode_text(delta.content)
        if delta.thinking:
            text += b',"thinking":' + encode_text(delta.thinking)
        context = {"context": final.context} if final.context else {}
        calls = {"tool_calls": [_tool_call(call) for call in delta.tool_calls]} if delta.tool_calls else {}
        end = {"done": True, "done_reason": final.done_reason}
        return self._object(text, {**end, **context, **self._metrics(final), **calls})


class ChatWriter(_Writer):
    """Answers of `/api/chat`."""

    def line(self, delta: Delta) -> bytes:
        """One line for a piece of the answer; one for each tool call, because some clients read only the first."""
        if len(delta.tool_calls) > 1:
            text = [self.line(Delta(delta.content, delta.thinking))] if delta.content or delta.thinking else []
            return b"".join(text + [self.line(Delta(tool_calls=(call,))) for call in delta.tool_calls])
        return self._head + utc_now().encode() + b'",' + _message(delta) + _NOT_DONE

    def last_line(self, final: Final) -> bytes:
        """The line with the numbers."""
        return self.whole(Delta(), final) + b"\n"

    def whole(self, delta: Delta, final: Final) -> bytes:
        """Message and numbers as one object."""
        return self._object(_message(delta), {"done": True, "done_reason": final.done_reason, **self._metrics(final)})

    def notice(self, event: Final | Rendered) -> bytes:
        """A load, an unload, or the prompt that would have been run."""
        if isinstance(event, Rendered):
            empty = b'"message":{"role":"","content":""}'
            return self._object(empty, {"done": False, "_debug_info": _debug_info(event)})
        return self._object(_message(Delta()), {"done": True, "done_reason": event.done_reason})


def _message(delta: Delta) -> bytes:
    text = b'"message":{"role":"assistant","content":' + encode_text(delta.content)
    if delta.thinking:
        text += b',"thinking":' + encode_text(delta.thinking)
    if delta.tool_calls:
        text += b',"tool_calls":' + encode([_tool_call(call) for call in delta.tool_calls])
    return text + b"}"


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _debug_info(event: Rendered) -> dict[str, Any]:
    count = {"image_count": event.image_count} if event.image_count else {}
    return {"rendered_template": event.prompt, **count}
