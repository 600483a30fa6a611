"""Tool calls on their way from a model's text to the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.errors import EngineError
from engine.requests import Delta, ToolCall


class MalformedCall(EngineError):
    """The model began a tool call that cannot be read, in a format where that fails the answer; `str()` says why."""


class Unreadable(ValueError):
    """A text is not what it should be; `str()` says why. Never leaves the parsers."""


def emitted(calls: Iterable[ToolCall]) -> Iterator[Delta]:
    """One delta for each call."""
    for call in calls:
        yield Delta(tool_calls=(call,))
