"""Calls one after another between special tokens, with tokens around the whole list: DeepSeek's and Kimi's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.api import ToolCall
from engine.chat.output.stream import Script, Tape, Unreadable, content, emitted


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Reads such a list. `read` makes a call of what stands between two tokens, or raises Unreadable."""

    calls: str
    end_calls: str
    call: str
    end_call: str
    read: Callable[[str], ToolCall]

    def read_list(self, tape: Tape, opening: str) -> Script[None]:
        """Emit the calls of a list. `opening`, the list's token or the first call's, is consumed."""
        space = ""
        if opening == self.calls:
            space = yield from tape.skip_space()
            opening += yield from tape.accept(self.call)
        if not opening.endswith(self.call):
            yield content(opening + space)
            return
        tag = self.call
        while tag == self.call:
            yield from self._read_call(tape)
            space = yield from tape.skip_space()
            tag = yield from tape.accept(self.call, self.end_calls)
        if not tag:
            tape.unread(space)

    def _read_call(self, tape: Tape) -> Script[None]:
        """Emit one call, or give back what is none. The token that should end it may be missing."""
        body, _ = yield from tape.upto(self.end_call, self.call, self.end_calls)
        end = yield from tape.accept(self.end_call)
        try:
            yield from emitted([self.read(body)])
        except Unreadable:
            yield content(self.call + body + end)
