"""Makes the constraints of answers beside the event loop, and remembers them."""

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
WIDTH, WAITING = 2, 256  # schemas that are translated at once, and that may wait for it

Key = tuple[bytes, Format]


class Constraints:
    """Translates what requests ask of their answers, those of different clients in turns.

    What is known already waits for nobody, however much is being translated. Lives on one event loop; `close` ends
    its threads.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WIDTH, "constraints")  # of its own: nothing else waits for them
        self._line = FairQueue(WIDTH, WAITING)
        self._known: dict[Key, Constraint] = {}  # the one that was used last at the end
        self._size = 0

    async def chat(self, request: ChatRequest, tools: Sequence[Tool], format: Format) -> Constraint | None:
        """What `chat_constraint` makes of a turn. Raises InvalidRequest and ServerBusy."""
        if request.format is None and request.tool_choice in ("auto", "none"):
            return None
        try:
            said = repr((request.format, request.tool_choice, [(tool.name, tool.sent) for tool in tools]))
        except RecursionError:
            said = None
        return await self._made(said, format, lambda: chat_constraint(request, tools, format))

    async def content(self, wanted: str, format: Format) -> Constraint | None:
        """What `content_constraint` makes of a request's `format`. Raises InvalidRequest and ServerBusy."""
        return await self._made(repr(wanted), format, lambda: content_constraint(wanted, format))

    def close(self) -> None:
        """End the threads, once they have done what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _made(self, said: str | None, format: Format, make: Callable[[], Constraint | None]) -> Constraint | None:
        """The constraint by what was said, and in which format; without its text it is made anew."""
        key = None if said is None else (hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest(), format)
        if (found := self._recalled(key)) is not None:
            return found
        async with self._line.place(CLIENT.get(), len(said or "")):
            if (found := self._recalled(key)) is not None:  # somebody before has asked for the same
                return found
            found = await asyncio.get_running_loop().run_in_executor(self._threads, make)
        if key is not None and found is not None:
            self._remember(key, found)
        return found

    def _recalled(self, key: Key | None) -> Constraint | None:
        if key is None or (found := self._known.pop(key, None)) is None:
            return None
        self._known[key] = found
        return found

    def _remember(self, key: Key, made: Constraint) -> None:
        before = self._known.pop(key, None)
        self._size += _size(made) - (0 if before is None else _size(before))
        self._known[key] = made
        while self._size > REMEMBERED:
            self._size -= _size(self._known.pop(next(iter(self._known))))


def _size(made: Constraint) -> int:
    return len(made.rules) + sum(map(len, made.examples)) + 1_000  # and what is around them
