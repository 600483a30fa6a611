"""The writer of `/v1/responses`: the events of an engine's answer as OpenAI's events, or as one response."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from engine.api import CallPart, Delta, Event, Final, Progress, TokenLogprob, ToolCall
from server.http.errors import ErrorInfo
from server.http.json_output import encode
from server.http.streaming import Framing, Writer
from server.openai.errors import error_object
from server.openai.responses_output import Call, CustomCall, Emitted, OutputItem, Reasoning, Status, Text, new_id
from server.openai.responses_schemas import ResponsesBody
from server.openai.responses_tools import echo_rule

JSON = "application/json"
SSE = "text/event-stream"
_ENDS = ("response.completed", "response.incomplete")


class ResponsesWriter(Writer[Event]):
    """Writes one answer. Text that is whitespace waits for more, because some models write it before their calls."""

    def __init__(self, body: ResponsesBody, ping: bytes = b"") -> None:
        self.framing = Framing.SSE if body.stream else Framing.WHOLE
        self.media_type = SSE if body.stream else JSON
        self._tools = body.tools
        self._echo = _echo(body)
        self._ping = ping
        self._id = new_id("resp")
        self._created = int(time.time())
        self._number = 0  # of the next event
        self._output: list[dict[str, Any]] = []  # the items that have ended
        self._count = 0  # of all items
        self._open: Reasoning | Text | None = None
        self._blank: tuple[str, tuple[TokenLogprob, ...]] = ("", ())  # whitespace that waits
        self._calls: dict[int, Call] = {}  # those that are being written, by the engine's index
        self._has_calls = False

    def event(self, event: Event) -> bytes:
        """The frames of an event; without a stream the whole response at the end."""
        if isinstance(event, Progress):  # this API does not ask for it
            return b""
        begin = () if self._number else self._begin()
        emitted = self._end(event) if isinstance(event, Final) else self._delta(event)
        return self._frames(chain(begin, emitted))

    def ping(self) -> bytes:
        """A comment."""
        return self._ping

    def error(self, info: ErrorInfo) -> bytes:
        """`response.failed`, then the error, at which OpenAI's clients raise an exception."""
        detail = error_object(info)["error"]
        begin = () if self._number else self._begin()
        code = info.code or ("invalid_prompt" if info.status < 500 else "server_error")
        failed = self._response("failed", error={"code": code, "message": info.message})
        last = {"code": info.code or None, "message": info.message, "param": info.param or None, "error": detail}
        return self._frames(chain(begin, [("response.failed", {"response": failed}), ("error", last)]))

    def _frames(self, emitted: Iterable[Emitted]) -> bytes:
        frames = []
        for kind, payload in emitted:
            if self.framing is Framing.SSE:
                data = encode({"type": kind, "sequence_number": self._number, **payload})
                frames.append(self.framing.frame(data, kind))
            elif kind in _ENDS:
                frames.append(encode(payload["response"]))
            self._number += 1
        return b"".join(frames)

    def _begin(self) -> Iterator[Emitted]:
        for kind in ("response.created", "response.in_progress"):
            yield kind, {"response": self._response("in_progress")}

    def _delta(self, delta: Delta) -> Iterator[Emitted]:
        if not self._has_calls:  # what comes between and behind calls is dropped
            if delta.thinking:
                yield from self._think(delta.thinking)
            if delta.content:
                yield from self._say(delta.content, delta.logprobs)
        for part in delta.call_parts:
            yield from self._call_part(part)
        for call in delta.tool_calls:
            yield from self._call(call)

    def _think(self, thinking: str) -> Iterator[Emitted]:
        if not isinstance(item := self._open, Reasoning):
            yield from self._close()
            item = self._open = Reasoning(self._next_index())
            yield from item.begin()
        yield from item.add(thinking)

    def _say(self, content: str, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Emitted]:
        content, logprobs = self._blank[0] + content, self._blank[1] + logprobs
        if not isinstance(self._open, Text) and not content.strip():
            self._blank = (content, logprobs)
            return
        yield from self._text(content, logprobs)

    def _text(self, content: str, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Emitted]:
        self._blank = ("", ())
        if not isinstance(item := self._open, Text):
            yield from self._close()
            item = self._open = Text(self._next_index())
            yield from item.begin()
        if content:
            yield from item.add(content, logprobs)

    def _call_part(self, part: CallPart) -> Iterator[Emitted]:
        call = self._calls.get(part.index)
        if call is None:
            call, begin = self._new_call(part.index, part.id, part.name)
            yield from begin
        if part.arguments and not isinstance(call, CustomCall):  # the input is within the arguments
            yield from call.add(part.arguments)

    def _call(self, call: ToolCall) -> Iterator[Emitted]:
        item = self._calls.get(call.index)
        if item is None:
            item, begin = self._new_call(call.index, call.id, call.name)
            yield from begin
        del self._calls[call.index]
        if self.framing is Framing.WHOLE:
            item.forget()  # in whole answers arguments have no blanks, whatever the model wrote
        if not item.text:
            yield from item.add(item.written(call.arguments))
        yield from self._ended(item)

    def _new_call(self, index: int, call_id: str, name: str) -> tuple[Call, Iterator[Emitted]]:
        self._has_calls = True
        before = list(self._close())
        tool = self._tools.called(name)
        call = (CustomCall if tool.custom else Call)(self._next_index(), call_id, tool)
        self._calls[index] = call
        return call, iter([*before, *call.begin()])

    def _end(self, final: Final) -> Iterator[Emitted]:
        status: Status = "incomplete" if final.done_reason == "length" else "completed"
        if not self._has_calls:
            yield from self._text(*self._blank)
        yield from self._close(status)
        for call in self._calls.values():
            yield from self._ended(call, "incomplete")
        yield f"response.{status}", {"response": self._response(status, final)}

    def _close(self, status: Status = "completed") -> Iterator[Emitted]:
        """End the item that is being written, unless it is a call."""
        if self._open is not None:
            yield from self._ended(self._open, status)
        self._open = None

    def _ended(self, item: OutputItem, status: Status = "completed") -> Iterator[Emitted]:
        self._output.append(item.object(status))
        yield from item.end(status)

    def _next_index(self) -> int:
        self._count += 1
        return self._count - 1

    def _response(self, status: str, final: Final | None = None, error: dict[str, str] | None = None) -> dict[str, Any]:
        """The response as it stands."""
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "incomplete_details": reason,
            "output": list(self._output),
            "error": error,
            "usage": None if final is None else self._usage(final),
            **self._echo,
        }

    def _usage(self, final: Final) -> dict[str, Any]:
        return {
            "input_tokens": final.prompt_eval_count,
            "input_tokens_details": {"cached_tokens": final.prompt_eval_cached},
            "output_tokens": final.eval_count,
            "output_tokens_details": {"reasoning_tokens": final.thinking_count if self._echo["reasoning"] else 0},
            "total_tokens": final.prompt_eval_count + final.eval_count,
        }


def _echo(body: ResponsesBody) -> dict[str, Any]:
    """The fields of the request that the response repeats, and those that are always the same."""
    reasoning = body.reasoning.echo
    if reasoning and body.stream:
        reasoning = {"effort": None, "summary": None} | reasoning
    return {
        "model": body.model,
        "previous_response_id": None,
        "instructions": body.instructions,
        "tools": list(body.tools.echo),
        "tool_choice": echo_rule(body.rule, body.tools),
        "truncation": body.truncation or "disabled",
        "parallel_tool_calls": body.parallel_tool_calls,
        "text": body.text.echo,
        "top_p": 1 if body.top_p is None else body.top_p,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": body.top_logprobs,
        "temperature": 1 if body.temperature is None else body.temperature,
        "reasoning": reasoning,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": False,
        "background": body.background,
        "service_tier": "default",
        "metadata": body.metadata,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        **({} if body.user is None else {"user": body.user}),
    }
