"""Compiles the constraints of answers in threads, and remembers them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.api import ChatRequest, Tool
from engine.chat.grammar.constraint import Constraint, chat_constraint, content_constraint
from engine.chat.output import Format
from engine.fair_queue import CLIENT, FairQueue

REMEMBERED = 32 << 20  # characters of rules; clients send the same schemas again and again
WIDTH, WAITING = 2, 256  # schemas that are compiled at the same time, and that may wait for that

Key = tuple[bytes, Format]


class Constraints:
    """Compiles schemas and tool choices to constraints; different clients take turns.

    A constraint that is remembered is returned at once, however many others wait. Belongs to one event loop; `close`
    ends its threads.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WIDTH, "constraints")  # not the default executor, which others need
        self._queue = FairQueue(WIDTH, WAITING)
        self._known: dict[Key, Constraint] = {}  # the one that was used last at the end
        self._size = 0

    async def chat(self, request: ChatRequest, tools: Sequence[Tool], answer_format: Format) -> Constraint | None:
        """The result of `chat_constraint`. Raises InvalidRequest and ServerBusy."""
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
        """End the threads once they have finished what they are compiling."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _compiled(
        self, source: str | None, answer_format: Format, compile_it: Callable[[], Constraint | None]
    ) -> Constraint | None:
        """The constraint for a source text in an answer format. Without a source it is not remembered."""
        key = None if source is None else (_digest(source), answer_format)
        if (constraint := self._recalled(key)) is not None:
            return constraint
        async with self._queue.place(CLIENT.get(), len(source or "")):
            if (constraint := self._recalled(key)) is not None:  # an earlier request was for the same one
                return constraint
            constraint = await asyncio.get_running_loop().run_in_executor(self._threads, compile_it)
        if key is not None and constraint is not None:
            self._remember(key, constraint)
        return constraint

    def _recalled(self, key: Key | None) -> Constraint | None:
        if key is None or (constraint := self._known.pop(key, None)) is None:
            return None
        self._known[key] = constraint
        return constraint

    def _remember(self, key: Key, constraint: Constraint) -> None:
        before = self._known.pop(key, None)
        self._size += _size(constraint) - (0 if before is None else _size(before))
        self._known[key] = constraint
        while self._size > REMEMBERED:
            self._size -= _size(self._known.pop(next(iter(self._known))))


def _digest(source: str) -> bytes:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()


def _size(constraint: Constraint) -> int:
    return len(constraint.rules) + sum(map(len, constraint.examples)) + 1_000  # for the objects around them
