"""Compiles the constraints of answers (schemas, tool choices) in threads, with a cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from engine.api import ChatRequest, Tool
from engine.chat.grammar.constraint import (
    Constraint,
    call_grammar,
    chat_constraint,
    content_constraint,
)
from engine.chat.output import Format
from engine.fair_queue import CLIENT, FairQueue
from engine.messages import Grammar

CACHE_SIZE = 32 << 20  # characters of rules; clients send the same schemas again and again
WIDTH, WAITING = 2, 256  # constraints that are compiled at once, and requests that may wait for that

Key = tuple[bytes, Format]
_C = TypeVar("_C", Constraint, Grammar)


class Constraints:
    """Compiles schemas and tool choices to constraints; clients take turns.

    A cached constraint is returned at once, however many requests wait. Belongs to one event loop; `close` ends its
    threads.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WIDTH, "constraints")  # not the default executor, which others need
        self._queue = FairQueue(WIDTH, WAITING)
        self._cache: dict[Key, Any] = {}  # the most recently used at the end
        self._size = 0

    async def chat(self, request: ChatRequest, tools: Sequence[Tool], answer_format: Format) -> Constraint | None:
        """The result of `chat_constraint`: None for a free answer. Raises InvalidRequest and ServerBusy."""
        if request.format is None and request.tool_choice in ("auto", "none"):
            return None
        several = request.parallel_tool_calls
        source = _source(request.format, request.tool_choice, several, [(tool.name, tool.sent) for tool in tools])
        return await self._compiled(source, answer_format, lambda: chat_constraint(request, tools, answer_format))

    async def content(self, output_format: str, answer_format: Format) -> Constraint | None:
        """The result of `content_constraint` for the JSON text of a request's `format`. Raises as `chat` does."""
        return await self._compiled(
            repr(output_format), answer_format, lambda: content_constraint(output_format, answer_format)
        )

    async def calls(
        self, tools: Sequence[Tool], answer_format: Format, *, once: bool, any_arguments: bool
    ) -> Grammar | None:
        """The result of `call_grammar`. Raises ServerBusy."""
        source = _source("calls", once, any_arguments, [(tool.name, tool.sent) for tool in tools])
        return await self._compiled(
            source,
            answer_format,
            lambda: call_grammar(tools, answer_format, once=once, any_arguments=any_arguments),
        )

    def close(self) -> None:
        """End the threads once their current compilation is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _compiled(
        self, source: str | None, answer_format: Format, compile_it: Callable[[], _C | None]
    ) -> _C | None:
        """The constraint for a source text and an answer format, by `compile_it` or the cache (not without source)."""
        key = None if source is None else (_digest(source), answer_format)
        constraint: _C | None = self._cached(key)
        if constraint is not None:
            return constraint
        async with self._queue.place(CLIENT.get(), len(source or "")):
            constraint = self._cached(key)
            if constraint is not None:  # compiled meanwhile for another request
                return constraint
            constraint = await asyncio.get_running_loop().run_in_executor(self._threads, compile_it)
        if key is not None and constraint is not None:
            self._store(key, constraint)
        return constraint

    def _cached(self, key: Key | None) -> Any:
        if key is None or (constraint := self._cache.pop(key, None)) is None:
            return None
        self._cache[key] = constraint
        return constraint

    def _store(self, key: Key, constraint: Constraint | Grammar) -> None:
        before = self._cache.pop(key, None)
        self._size += _size(constraint) - (0 if before is None else _size(before))
        self._cache[key] = constraint
        while self._size > CACHE_SIZE:
            self._size -= _size(self._cache.pop(next(iter(self._cache))))


def _source(*asked: Any) -> str | None:
    """A text that tells apart what is asked; None if it is nested too deeply."""
    try:
        return repr(asked)
    except RecursionError:
        return None


def _digest(source: str) -> bytes:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()


def _size(constraint: Constraint | Grammar) -> int:
    return (
        len(constraint.rules) + len(constraint.user_grammar) + sum(map(len, constraint.examples)) + 1_000
    )  # for the objects themselves
