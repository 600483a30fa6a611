"""What the clients are asked, and what each step has to give: a client's module says only how the client is asked.

A client is a class whose methods have names of `EXPECTED`, or begin with `check_` and assert by themselves. They
may be coroutines. Modules run in an environment of their own that holds the client and nothing of this project.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

URL = os.environ.get("SERVER_URL", "")
MODEL = os.environ.get("CHAT_MODEL", "tinychat")
EMBEDDER = os.environ.get("EMBED_MODEL", "tinychat")
SLOWEST = 60  # seconds for a step
LOOP = asyncio.Runner()  # one for all steps: clients keep connections that belong to it

CAPITAL = "What is the capital of Spain?"
ANSWER = "The capital of Spain is Madrid."
THOUGHT = "The user asks for the capital of Spain. It is Madrid."
PIRATE = "Speak like a pirate."
HISTORY = [
    ("user", "My name is Grace."),
    ("assistant", "Nice to meet you, Grace!"),
    ("user", "What is my name?"),
]
COUNT = "Count to 30"
LONG = "Count to 100"
STORY = "Tell me a story about a fox named Luna."
PERSON = "Return JSON with name Alice, age 31, city Oslo."
ALICE = {"name": "Alice", "age": 31, "city": "Oslo"}
PERSON_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
PARIS = "What is the weather in Paris?"
TWO = "What is the weather in Paris and London?"
WEATHER = "get_current_weather"
WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The name of the city"}},
    "required": ["city"],
}
WEATHER_TOOL = {
    "type": "function",
    "function": {"name": WEATHER, "description": "Get the current weather for a city", "parameters": WEATHER_SCHEMA},
}
RESULT = '{"temperature": 22, "condition": "sunny"}'


def get_current_weather(city: str) -> str:
    """Get the current weather for a city

    Args:
        city: The name of the city
    """
    return RESULT


def has(*words: str) -> Callable[[Any], bool]:
    return lambda text: all(word in text for word in words)


def pieces_of(text: str) -> Callable[[Any], bool]:
    """A stream of this text. What piles up while a client is busy may come in one piece."""
    return lambda pieces: "".join(pieces) == text


def _person(found: Any) -> bool:
    """Somebody of the right shape: not asked in its own way, a model this small need not find the right values."""
    found = found.model_dump() if hasattr(found, "model_dump") else found
    found = json.loads(found) if isinstance(found, str) else found
    return [(key, type(value)) for key, value in found.items()] == [("name", str), ("age", int), ("city", str)]


def _vectors(found: Sequence[Sequence[float]]) -> bool:
    return len(found) == 2 and len(found[0]) == len(found[1]) > 60 and found[0] != found[1]


CALL = (WEATHER, {"city": "Paris"})
EXPECTED: dict[str, Any] = {
    "plain": ANSWER,
    "completion": has("Paris"),
    "stream": pieces_of(ANSWER),
    "asynchronous": ANSWER,
    "asynchronous_stream": pieces_of(ANSWER),
    "batch": [ANSWER, ANSWER],
    "system": "Arr! The capital of Spain is Madrid. Yo ho ho!",
    "history": "Your name is Grace.",
    "thinking": (THOUGHT, ANSWER),
    "thinking_stream": (THOUGHT, ANSWER),
    "no_thinking": (None, ANSWER),
    "usage": lambda usage: usage[0] > 10 and usage[1] > 7,  # tokens of prompt and answer
    "stream_usage": lambda usage: usage[0] > 10 and usage[1] > 7,
    "finish": "stop",
    "stop": lambda text: text.rstrip(" ,") == "1, 2, 3",
    "max_tokens": "length",
    "seed": lambda texts: texts[0] == texts[1] != texts[2],  # seeds 1, 1, 2 at temperature 2
    "logprobs": lambda tokens: len(tokens) > 6 and all(logprob <= 0 for _, logprob in tokens),
    "tool": [CALL],
    "tool_stream": [CALL],
    "two_tools": [CALL, (WEATHER, {"city": "London"})],
    "two_tools_stream": [CALL, (WEATHER, {"city": "London"})],
    "no_tool": [],  # tool_choice none
    "required_tool": lambda calls: [name for name, _ in calls] == [WEATHER],
    "named_tool": lambda calls: [name for name, _ in calls] == [WEATHER],
    "tool_loop": has("22"),
    "tool_loop_stream": has("22"),
    "json": ALICE,
    "json_schema": _person,
    "structured": _person,
    "structured_tool": _person,
    "structured_stream": _person,
    "structured_prompted": _person,
    "embed": lambda vector: len(vector) > 60,
    "embed_batch": _vectors,
    "embed_asynchronous": _vectors,
    "models": lambda names: any(name.split(":")[0] == MODEL for name in names),
    "unknown_model": has("nosuch", "not found"),
    "unknown_model_stream": has("nosuch", "not found"),
    "bad_request": lambda message: bool(message),
    "cancel": ANSWER,  # asked after an answer was left
}


def caught(kind: type[Exception], call: Callable[[], Any]) -> str:
    """The message of the error that the call has to raise."""
    try:
        call()
    except kind as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"no {kind.__name__} was raised")


async def caught_later(kind: type[Exception], asked: Awaitable[Any]) -> str:
    """The message of the error that has to come."""
    try:
        await asked
    except kind as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"no {kind.__name__} was raised")


def first(stream: Iterable[Any]) -> None:
    """Take one piece of a stream and leave it."""
    iterator = iter(stream)
    next(iterator)
    close = getattr(stream, "close", None) or getattr(iterator, "close", None)
    if close:
        close()


def arguments(text: str | dict[str, Any]) -> dict[str, Any]:
    return json.loads(text) if isinstance(text, str) else dict(text)


def run(*clients: Any) -> None:
    """Take every step of every client; print a line of JSON for each: client, step, error or null."""
    chosen = set(sys.argv[1:])
    for client in clients:
        name = getattr(client, "name", type(client).__name__)
        for step in (*EXPECTED, *(n for n in dir(client) if n.startswith("check_"))):
            if getattr(client, step, None) and (not chosen or step in chosen or name in chosen):
                start = time.monotonic()
                error = _error(client, step)
                seconds = round(time.monotonic() - start, 1)
                print(json.dumps({"client": name, "step": step, "seconds": seconds, "error": error}), flush=True)


def _error(client: Any, step: str) -> str | None:
    try:
        result = getattr(client, step)()
        if inspect.isawaitable(result):
            result = LOOP.run(asyncio.wait_for(result, SLOWEST))
        if step in EXPECTED:
            expected = EXPECTED[step]
            right = expected(result) if callable(expected) else result == expected
            return None if right else f"gave {result!r}"[:300]
    except Exception as error:  # noqa: BLE001 what a client raises is what this is about
        if os.environ.get("TRACE"):
            traceback.print_exc()
        return f"{type(error).__name__}: {error}"[:300]
    return None
