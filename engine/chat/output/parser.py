"""Parses one answer in a format, and gives each tool call an index and an id."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import replace

from engine.api import Delta
from engine.chat.output.format import Format, ParseContext
from engine.chat.output.stream import StreamParser

_LETTERS = string.ascii_lowercase + string.digits


def random_id() -> str:
    """An id for a call whose format has none: `call_` and eight letters or digits."""
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))


class OutputParser(StreamParser):
    """Parses one answer. Not thread safe: belongs to the task that reads the answer.

    A delta has one call at most, and each call is emitted as soon as it is complete. `held`: a grammar holds all calls
    of the answer to their format. Calls that are held may be emitted in parts before.
    """

    def __init__(
        self,
        answer_format: Format,
        context: ParseContext,
        new_id: Callable[[], str] = random_id,
        *,
        held: bool = False,
    ) -> None:
        super().__init__(lambda buffer: answer_format.read(buffer, context))
        self._new_id = new_id
        self._held = held
        self._calls = 0
        self._announced_id = ""  # of the call that has parts and is not complete

    def feed(self, text: str, final: bool = False, held: bool = False) -> Iterator[Delta]:
        """Deltas for the next chunk of the answer; iterate to the end before the next call.

        `final`: `text` is the last chunk. `held`: a grammar holds it to the format of a call. Raises MalformedCall
        after the deltas of everything before the fault.
        """
        for delta in super().feed(text, final, held or self._held):
            yield self._numbered(delta) if delta.tool_calls or delta.call_parts else delta

    def _numbered(self, delta: Delta) -> Delta:
        if delta.call_parts:
            (part,) = delta.call_parts
            if part.name:
                self._announced_id = part.id or self._new_id()
            return Delta(call_parts=(replace(part, index=self._calls, id=self._announced_id if part.name else ""),))
        (call,) = delta.tool_calls
        call_id = self._announced_id or call.id or self._new_id()
        self._announced_id = ""
        self._calls += 1
        return Delta(tool_calls=(replace(call, id=call_id, index=self._calls - 1),))
