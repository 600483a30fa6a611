"""What a streamed answer must be in each API: whole, valid, with one end, and the text that it should have.

Each check raises Violation with what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]


class Violation(Exception):
    """An answer that no client may get."""


@dataclass(frozen=True, slots=True)
class API:
    """A dialect: its path, how a text is asked for, and how a stream is read."""

    path: str
    ask: Callable[[str], dict[str, Any]]
    form: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The fields that hold an answer to a JSON schema."""
    read: Callable[[bytes], str]
    """The text of a stream."""


def ndjson(body: bytes) -> list[Event]:
    """The objects of a body, each in a line of its own."""
    if not body.endswith(b"\n"):
        raise Violation(f"the last line is not complete: {body[-80:]!r}")
    return [_object(line) for line in body[:-1].split(b"\n")]


def events(body: bytes) -> list[tuple[str, Event | str]]:
    """The server-sent events of a body: name and data, which is an object or `[DONE]`."""
    if not body.endswith(b"\n\n"):
        raise Violation(f"the last event is not complete: {body[-80:]!r}")
    found: list[tuple[str, Event | str]] = []
    for block in body[:-2].split(b"\n\n"):
        fields = [line.partition(b": ") for line in block.split(b"\n")]
        names = [key for key, _, _ in fields]
        if names not in ([b"data"], [b"event", b"data"]):
            raise Violation(f"no event: {block[:80]!r}")
        data = fields[-1][2]
        name = fields[0][2].decode() if len(fields) > 1 else ""
        found.append((name, "[DONE]" if data == b"[DONE]" else _object(data)))
    return found


def _object(data: bytes) -> Event:
    """One object. It is text by itself: no half of a character, in bytes or as an escape."""
    try:
        text = data.decode()
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError as error:
        raise Violation(f"{type(error).__name__}: {error}: {data[:80]!r}") from None
    if not isinstance(found, dict):
        raise Violation(f"no object: {data[:80]!r}")
    if "error" in found and found["error"] is not None:
        raise Violation(f"an error: {data[:200]!r}")
    return found


def _only_last(ends: list[bool], what: str) -> None:
    if ends.count(True) != 1 or not ends[-1]:
        raise Violation(
            f"{what} {ends.count(True)} times in {len(ends)} events, {'' if ends[-1] else 'not '}at the end"
        )


def _generate(body: bytes) -> str:
    lines = ndjson(body)
    _only_last([line["done"] is True for line in lines], "done:true")
    return "".join(line["response"] for line in lines)


def _chat(body: bytes) -> str:
    lines = ndjson(body)
    _only_last([line["done"] is True for line in lines], "done:true")
    return "".join(line["message"]["content"] for line in lines)


def _openai(text_of: Callable[[Event], str]) -> Callable[[bytes], str]:
    def read(body: bytes) -> str:
        found = [data for _, data in events(body)]
        _only_last([data == "[DONE]" for data in found], "[DONE]")
        choices = [choice for data in found if isinstance(data, dict) for choice in data["choices"]]
        _only_last([choice["finish_reason"] is not None for choice in choices], "finish_reason")
        return "".join(map(text_of, choices))

    return read


def _typed(body: bytes) -> list[Event]:
    """The objects of events that are named by their types."""
    found = events(body)
    objects = [data for _, data in found if isinstance(data, dict)]
    if [name for name, _ in found] != [data.get("type") for data in objects]:
        raise Violation("an event's name is not its type")
    return objects


def _responses(body: bytes) -> str:
    objects = _typed(body)
    if [data["sequence_number"] for data in objects] != list(range(len(objects))):
        raise Violation("sequence numbers are not in order")
    _only_last([data["type"] == "response.completed" for data in objects], "response.completed")
    text = "".join(data["delta"] for data in objects if data["type"] == "response.output_text.delta")
    items = objects[-1]["response"]["output"]
    whole = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
    if whole != text:
        raise Violation(f"the deltas are not the whole text: {text[:80]!r}, {whole[:80]!r}")
    return text


def _messages(body: bytes) -> str:
    objects = _typed(body)
    if objects[0]["type"] != "message_start":
        raise Violation(f"the first event is {objects[0]['type']}")
    _only_last([data["type"] == "message_stop" for data in objects], "message_stop")
    if sum(data["type"] == "message_delta" for data in objects) != 1:
        raise Violation("not one message_delta")
    return "".join(
        data["delta"]["text"]
        for data in objects
        if data["type"] == "content_block_delta" and data["delta"]["type"] == "text_delta"
    )


def _conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _named(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "text", "schema": schema}}


APIS = (
    API("/api/generate", lambda text: {"prompt": text, "think": False}, lambda schema: {"format": schema}, _generate),
    API(
        "/api/chat",
        lambda text: {"messages": _conversation(text), "think": False},
        lambda schema: {"format": schema},
        _chat,
    ),
    API(
        "/v1/chat/completions",
        lambda text: {"messages": _conversation(text), "reasoning_effort": "none", "stream": True},
        lambda schema: {"response_format": _named(schema)},
        _openai(lambda choice: choice["delta"].get("content") or ""),
    ),
    API(
        "/v1/completions",
        lambda text: {"prompt": text, "stream": True, "max_tokens": 4096},
        lambda schema: {"response_format": _named(schema)},
        _openai(lambda choice: choice["text"]),
    ),
    API(
        "/v1/responses",
        lambda text: {"input": text, "reasoning": {"effort": "none"}, "stream": True},
        lambda schema: {"text": {"format": {"type": "json_schema", "name": "text", "schema": schema}}},
        _responses,
    ),
    API(
        "/v1/messages",
        lambda text: {"messages": _conversation(text), "max_tokens": 4096, "stream": True},
        lambda schema: {"output_format": {"type": "json_schema", "schema": schema}},
        _messages,
    ),
)
