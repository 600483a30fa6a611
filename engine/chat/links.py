"""Tool calls and their results, tied together: many clients send neither ids nor names with a result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from engine.requests import Message, ToolCall

SHORT = 9  # characters of an id, for the templates that insist on it


def linked_calls(messages: Sequence[Message]) -> list[Message]:
    """The same messages; a result that lacks its call's name or id gets it from the calls before it, in order."""
    linked: list[Message] = []
    open_calls: list[ToolCall] = []
    for at, message in enumerate(messages):
        if message.tool_calls:
            calls = tuple(replace(call, id=call.id or f"call_{at}_{n}") for n, call in enumerate(message.tool_calls))
            message = replace(message, tool_calls=calls)
            open_calls = list(calls)
        elif message.role == "tool" and (call := _answered(message, open_calls)) is not None:
            open_calls.remove(call)
            message = replace(
                message, tool_name=message.tool_name or call.name, tool_call_id=message.tool_call_id or call.id
            )
        linked.append(message)
    return linked


def short_ids(messages: Sequence[Message]) -> list[Message]:
    """The same messages, every id made of nine letters and digits; equal ids stay equal."""
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=_short(call.id)) for call in message.tool_calls),
            tool_call_id=_short(message.tool_call_id) if message.tool_call_id else "",
        )
        for message in messages
    ]


def named_ids(messages: Sequence[Message]) -> list[Message]:
    """The same messages, every id made of the function's name and the call's number: Kimi's `functions.f:0`."""
    calls = [call for message in messages for call in message.tool_calls]
    ids = {call.id: f"functions.{call.name}:{number}" for number, call in enumerate(calls)}
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=ids[call.id]) for call in message.tool_calls),
            tool_call_id=ids.get(message.tool_call_id, message.tool_call_id),
        )
        for message in messages
    ]


def one_call_each(messages: Sequence[Message]) -> list[Message]:
    """The same conversation as if the model had called one tool, got its result, and called the next.

    The messages are linked. What is not known to be the result of a call stays behind all of them.
    """
    found: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            found.append(message)
            continue
        results = list(takewhile(lambda message: message.role == "tool", rest))
        rest = rest[len(results) :]
        for number, call in enumerate(message.tool_calls):
            found.append(replace(message, content="" if number else message.content, tool_calls=(call,)))
            found += [result for result in results if result.tool_call_id == call.id]
        ids = {call.id for call in message.tool_calls}
        found += [result for result in results if result.tool_call_id not in ids]
    return found


def _answered(result: Message, calls: Sequence[ToolCall]) -> ToolCall | None:
    """The call that a result belongs to: by id, by name, else the first that has none yet."""
    if result.tool_call_id:
        return next((call for call in calls if call.id == result.tool_call_id), None)
    if result.tool_name:
        return next((call for call in calls if call.name == result.tool_name), None)
    return calls[0] if calls else None


def _short(id_: str) -> str:
    if len(id_) == SHORT and id_.isascii() and id_.isalnum():
        return id_
    return hashlib.sha256(id_.encode()).hexdigest()[:SHORT]
