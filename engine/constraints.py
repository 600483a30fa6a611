"""Compiles the constraints of answers (schemas, tool choices) in threads, with a cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.api import ChatRequest, Tool
from engine.chat.grammar.constraint import Constraint, chat_constraint, content_constraint
from engine.chat.output import Format
from engine.fair_queue import CLIENT, FairQueue

CACHE_SIZE = 32 << 20  # characters of rules; clients send the same schemas again and again
WIDTH, WAITING = 2, 256  # constraints that are compiled at once, and requests that may wait for that

Key = tuple[bytes, Format]


class Constraints:
    """Compiles schemas and tool choices to constraints; clients take turns.

    A cached constraint is returned at once, however many requests wait. Belongs to one event loop; `close` ends its
    threads.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WIDTH, "constraints")  # not the default executor, which others need
        self._queue = FairQueue(WIDTH, WAITING)
        self._cache: dict[Key, Constraint] = {}  # the most recently used at the end
        self._size = 0

    async def chat(self, request: ChatRequest, tools: Sequence[Tool], answer_format: Format) -> Constraint | None:
        """The result of `chat_constraint`: None for a free answer. Raises InvalidRequest and ServerBusy."""
        if request.format is None and request.tool_choice in ("auto", "none"):
            return None
        try:
            source = repr((request.format, request.tool_choice, [(tool.name, tool.sent) for tool in tools]))
        except RecursionError:
            source = None
        return await self._compiled(source, answer_format, lambda: chat_constraint(request, tools, answer_format))

    async def content(self, output_format: str, answer_format: Format) -> Constraint | None:
        """The result of `content_constraint` for the JSON text of a request's `format`. Raises as `chat` does."""
        return await self._compiled(
            repr(output_format), answer_format, lambda: content_constraint(output_format, answer_format)
        )

    def close(self) -> None:
        """End the threads once their current compilation is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _compiled(
        self, source: str | None, answer_format: Format, compile_it: Callable[[], Constraint | None]
    ) -> Constraint | None:
        """The constraint for a source text and an answer format, by `compile_it` or the cache (not without source)."""
        key = None if source is None else (_digest(source), answer_format)
        if (constraint := self._cached(key)) is not None:
            return constraint
        async with self._queue.place(CLIENT.get(), len(source or "")):
            if (constraint := self._cached(key)) is not None:  # compiled meanwhile for another request
                return constraint
            constraint = await asyncio.get_running_loop().run_in_executor(self._threads, compile_it)
        if key is not None and constraint is not None:
            self._store(key, constraint)
        return constraint

    def _cached(self, key: Key | None) -> Constraint | None:
        if key is None or (constraint := self._cache.pop(key, None)) is None:
            return None
        self._cache[key] = constraint
        return constraint

    def _store(self, key: Key, constraint: Constraint) -> None:
        before = self._cache.pop(key, None)
        self._size += _size(constraint) - (0 if before is None else _size(before))
        self._cache[key] = constraint
        while self._size > CACHE_SIZE:
            self._size -= _size(self._cache.pop(next(iter(self._cache))))


def _digest(source: str) -> bytes:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()


def _size(constraint: Constraint) -> int:
    return (
        len(constraint.rules) + len(constraint.user_grammar) + sum(map(len, constraint.examples)) + 1_000
    )  # for the objects themselves
