"""Writers for generate, chat, pull, push and create.

`event` runs once for each streamed token, so the part that all lines share is encoded once.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from typing import Any, Literal

from engine.api import (
    Delta,
    Event,
    Final,
    ModelLoading,
    Progress,
    PromptRead,
    Queued,
    Rendered,
    TokenLogprob,
    ToolCall,
)
from registry.progress import Step
from server.http.body import JSON, NDJSON
from server.http.json_output import encode, encode_text
from server.http.streaming import Framing, Writer, joined
from server.ollama.clock import utc_now

_NOT_DONE = b',"done":false}\n'


class _Writer(Writer[Event]):
    """What generate and chat share. `model` is the name as the client sent it; durations start here.

    `_empty` is the member of an object without text.
    """

    _empty: bytes

    def __init__(self, model: str, *, stream: bool) -> None:
        self.framing = Framing.NDJSON if stream else Framing.WHOLE
        self.media_type = NDJSON if stream else JSON
        self._kept: list[Delta] = []  # deltas for the final object
        self._start = time.perf_counter_ns()
        self._head = b'{"model":' + encode_text(model) + b',"created_at":"'

    def event(self, event: Event) -> bytes:
        """The lines of a delta, or the final object, which has the whole text unless it was streamed."""
        if isinstance(event, Final):
            return self.framing.frame(self._last(joined(self._kept), event))
        if isinstance(event, Progress):
            return self.progress(event)
        if event.call_parts and event == Delta(call_parts=event.call_parts):
            return b""  # this API has complete calls only
        if self.framing is Framing.NDJSON:
            return self._lines(event)
        self._kept.append(event)
        return b""

    def progress(self, progress: Progress) -> bytes:
        """A line without text."""
        told = {"done": False, "progress": _progress(progress)}
        return self._object(self._empty, told) + b"\n"

    @abstractmethod
    def notice(self, reason: Literal["load", "unload"]) -> bytes:
        """The object that reports a load or unload."""

    @abstractmethod
    def rendered(self, rendered: Rendered) -> bytes:
        """The object with the rendered prompt."""

    @abstractmethod
    def _lines(self, delta: Delta) -> bytes:
        """The lines of a delta in a stream."""

    @abstractmethod
    def _last(self, delta: Delta, final: Final) -> bytes:
        """The final object; `delta` joins the kept deltas."""

    def _object(self, body: bytes, fields: dict[str, Any]) -> bytes:
        """An object: model and time, `body` (encoded members), then the fields."""
        return self._head + utc_now().encode() + b'",' + body + b"," + encode(fields)[1:]

    def _metrics(self, final: Final) -> dict[str, Any]:
        """Token counts and durations (nanoseconds) of an answer, without zeros."""
        truncated = {"messages": final.prompt_left_out, "tokens": final.prompt_cut}
        metrics = {
            "total_duration": time.perf_counter_ns() - self._start,
            "load_duration": final.load_duration,
            "prompt_eval_count": final.prompt_eval_count,
            "prompt_eval_cached_count": final.prompt_eval_cached,
            "prompt_eval_cached": final.prompt_eval_cached,
            "prompt_truncated": {name: count for name, count in truncated.items() if count},
            "prompt_eval_duration": final.prompt_eval_duration,
            "eval_count": final.eval_count,
            "eval_duration": final.eval_duration,
        }
        return {name: value for name, value in metrics.items() if value}


class GenerateWriter(_Writer):
    """Answers of `/api/generate`. Tool calls, rare here, come in the final object."""

    _empty = b'"response":""'

    def notice(self, reason: Literal["load", "unload"]) -> bytes:
        """An object without text and numbers."""
        return self._object(self._empty, {"done": True, "done_reason": reason})

    def rendered(self, rendered: Rendered) -> bytes:
        """The `_debug_info` object, `done` false."""
        return self._object(self._empty, {"done": False, "_debug_info": debug_info(rendered)})

    def _lines(self, delta: Delta) -> bytes:
        if delta.tool_calls:
            self._kept.append(Delta(tool_calls=delta.tool_calls))
        text = encode_text(delta.content)
        if delta.thinking:
            text += b',"thinking":' + encode_text(delta.thinking)
        return self._head + utc_now().encode() + b'","response":' + text + _line_end(delta)

    def _last(self, delta: Delta, final: Final) -> bytes:
        text = b'"response":' + encode_text(delta.content)
        if delta.thinking:
            text += b',"thinking":' + encode_text(delta.thinking)
        context = {"context": final.context} if final.context else {}
        calls = {"tool_calls": [_tool_call(call) for call in delta.tool_calls]} if delta.tool_calls else {}
        return self._object(text, {**_done(final), **context, **self._metrics(final), **calls, **_logprobs(delta)})


class ChatWriter(_Writer):
    """Answers of `/api/chat`."""

    _empty = b'"message":{"role":"assistant","content":""}'

    def notice(self, reason: Literal["load", "unload"]) -> bytes:
        """An object without text and numbers."""
        return self._object(self._empty, {"done": True, "done_reason": reason})

    def rendered(self, rendered: Rendered) -> bytes:
        """The `_debug_info` object, `done` false, with an empty message."""
        empty = b'"message":{"role":"","content":""}'
        return self._object(empty, {"done": False, "_debug_info": debug_info(rendered)})

    def _lines(self, delta: Delta) -> bytes:
        """One line, or one for each tool call, because some clients read only the first call of a line."""
        if len(delta.tool_calls) > 1:
            text = [Delta(delta.content, delta.thinking)] if delta.content or delta.thinking else []
            first, *others = text + [Delta(tool_calls=(call,)) for call in delta.tool_calls]
            return b"".join(map(self._lines, [replace(first, logprobs=delta.logprobs), *others]))
        return self._head + utc_now().encode() + b'",' + _message(delta) + _line_end(delta)

    def _last(self, delta: Delta, final: Final) -> bytes:
        return self._object(_message(delta), {**_done(final), **_logprobs(delta), **self._metrics(final)})


class ProgressWriter(Writer[Step]):
    """The progress of pull, push and create: a line for each step, or only the last step."""

    error_media_type = "application/json"

    def __init__(self, *, stream: bool) -> None:
        self.framing = Framing.NDJSON if stream else Framing.WHOLE
        self.media_type = NDJSON if stream else "application/json"
        self._last: Step = {}

    def event(self, event: Step) -> bytes:
        """The line of a step; nothing without a stream."""
        self._last = event
        return self.framing.frame(encode(event)) if self.framing is Framing.NDJSON else b""

    def end(self) -> bytes:
        """The last step; nothing in a stream."""
        return b"" if self.framing is Framing.NDJSON else encode(self._last)


def _progress(progress: Progress) -> dict[str, Any]:
    """What a request waits for. `completed` of `total` is how far that is, whatever it is."""
    match progress:
        case Queued(position=position):
            return {"stage": "queued", "position": position}
        case ModelLoading(fraction=fraction):
            return {"stage": "loading", "completed": round(fraction, 3), "total": 1}
        case PromptRead(processed=processed, total=total, cached=cached):
            return {"stage": "prompt", "completed": processed, "total": total, "cached": cached}


def _done(final: Final) -> dict[str, Any]:
    """`done` and `done_reason`; this API writes the reason tool_calls as stop."""
    return {"done": True, "done_reason": "stop" if final.done_reason == "tool_calls" else final.done_reason}


def _line_end(delta: Delta) -> bytes:
    """The end of a line that is not the last one."""
    return b',"done":false,' + encode(_logprobs(delta))[1:] + b"\n" if delta.logprobs else _NOT_DONE


def _logprobs(delta: Delta) -> dict[str, Any]:
    """The key with the log-probabilities, if there are some."""
    return {"logprobs": [_logprob(entry) for entry in delta.logprobs]} if delta.logprobs else {}


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    """A token as text and, if it has some, as bytes: it need not be whole characters."""
    top = {"top_logprobs": [_logprob(other) for other in entry.top]} if entry.top else {}
    data = {"bytes": list(entry.data)} if entry.data else {}
    return {"token": entry.text, "logprob": entry.logprob, **data, **top}


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


def debug_info(rendered: Rendered) -> dict[str, Any]:
    """The prompt that a request would run, as `_debug_info` shows it."""
    count = {"image_count": rendered.image_count} if rendered.image_count else {}
    return {"rendered_template": rendered.prompt, **count}
