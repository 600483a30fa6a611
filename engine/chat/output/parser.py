"""The whole of an answer's reading: a format's script, and calls that have a number and an id."""

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
    """An id for a call whose format has none."""
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))


class OutputParser(StreamParser):
    """Reads one answer. Not thread safe: belongs to the task that reads the answer.

    A delta has one call at most, and each is given out as soon as it is complete.
    """

    def __init__(self, format: Format, turn: ParseContext, new_id: Callable[[], str] = random_id) -> None:
        super().__init__(lambda buffer: format.read(buffer, turn))
        self._new_id = new_id
        self._calls = 0

    def feed(self, text: str, final: bool = False) -> Iterator[Delta]:
        """What the answer says now that it goes on with `text`; iterate to the end before the next call.

        `final`: nothing comes after `text`. Raises MalformedCall after everything that stood before the fault.
        """
        for delta in super().feed(text, final):
            yield self._numbered(delta) if delta.tool_calls else delta

    def _numbered(self, delta: Delta) -> Delta:
        (call,) = delta.tool_calls
        self._calls += 1
        return Delta(tool_calls=(replace(call, id=call.id or self._new_id(), index=self._calls - 1),))
