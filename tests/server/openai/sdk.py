"""Answers held against the types of OpenAI's library, strictly; the library itself accepts anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, get_args

import httpx
from openai.types import Completion, responses
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

_TYPES: dict[str, type[BaseModel]] = {
    "chat.completion": ChatCompletion,
    "chat.completion.chunk": ChatCompletionChunk,
    "text_completion": Completion,
}
_EVENTS: dict[str, type[BaseModel]] = {
    next(iter(get_args(kind.model_fields["type"].annotation))): kind
    for kind in get_args(get_args(responses.ResponseStreamEvent)[0])
}


def check(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer or chunk. Raises ValidationError if it is not of its type."""
    _TYPES[answer["object"]].model_validate(_ended(answer), strict=True)
    return answer


def _ended(answer: dict[str, Any]) -> dict[str, Any]:
    """A chunk of a text completion with a reason for its end: the type has none for chunks, which OpenAI sends."""
    if answer["object"] != "text_completion":
        return answer
    choices = [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in answer["choices"]]
    return answer | {"choices": choices}


def check_chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream that ended well, each checked."""
    assert answer.headers["content-type"] == "text/event-stream"
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [check(json.loads(event.removeprefix("data: "))) for event in events]


def check_response(response: dict[str, Any]) -> None:
    """Raise ValidationError for a response that is not of its type."""
    responses.Response.model_validate(_completed(response))


def check_events(events: Iterable[dict[str, Any]]) -> None:
    """Raise ValidationError for an event of a response that is not of its type."""
    for event in events:
        response = {"response": _completed(event["response"])} if "response" in event else {}
        _EVENTS[event["type"]].model_validate(event | response)


def _completed(response: dict[str, Any]) -> dict[str, Any]:
    """The response with the number of tokens written to the cache, which Ollama's answers do not have either."""
    usage = response["usage"]
    if usage is None:
        return response
    details = {"input_tokens_details": usage["input_tokens_details"] | {"cache_write_tokens": 0}}
    return response | {"usage": usage | details}
