"""Calls one after another between special tokens, with tokens around the whole list: DeepSeek's and Kimi's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.api import ToolCall
from engine.chat.output.stream import ParserCoroutine, TextBuffer, Unreadable, content, emitted


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Reads such a list. `read` makes a call of what stands between two tokens, or raises Unreadable."""

    calls: str
    end_calls: str
    call: str
    end_call: str
    read: Callable[[str], ToolCall]

    def read_list(self, buffer: TextBuffer, opening: str) -> ParserCoroutine[None]:
        """Emit the calls of a list. `opening`, the list's token or the first call's, is consumed."""
        space = ""
        if opening == self.calls:
            space = yield from buffer.skip_space()
            opening += yield from buffer.accept(self.call)
        if not opening.endswith(self.call):
            yield content(opening + space)
            return
        tag = self.call
        while tag == self.call:
            yield from self._read_call(buffer)
            space = yield from buffer.skip_space()
            tag = yield from buffer.accept(self.call, self.end_calls)
        if not tag:
            buffer.push_back(space)

    def _read_call(self, buffer: TextBuffer) -> ParserCoroutine[None]:
        """Emit one call, or give back what is none. The token that should end it may be missing."""
        body, _ = yield from buffer.read_until(self.end_call, self.call, self.end_calls, keep=True)
        end = yield from buffer.accept(self.end_call)
        try:
            yield from emitted([self.read(body)])
        except Unreadable:
            yield content(self.call + body + end)
