"""The text of one answer as it arrives, and the parser that reads it.

A format's reader is a coroutine: a generator that takes text from the buffer, left to right, and yields what it
recognised. It yields None where it needs more text, and `StreamParser` resumes it with the next chunk. It takes text
only through the methods of `TextBuffer`, and these decide nothing that later text could overturn: how an answer is cut
into chunks never changes the result. A coroutine may yield empty deltas; the parser drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from engine.api import Delta, ToolCall
from engine.errors import EngineError


class MalformedCall(EngineError):
    """A tool call cannot be read, in a format where that fails the answer; `str()` says why."""


class Unreadable(ValueError):
    """A text is no call or no value; `str()` says why. Never leaves this package."""


T = TypeVar("T")
ParserCoroutine = Generator[Delta | None, None, T]
_EMPTY = Delta()


class TextBuffer:
    """Text that has arrived and was not consumed yet. `ended`: no more will come.

    `held`: what came last is of a call that a grammar holds to its format.

    Of the tags given to one call none may be the beginning of another. Belongs to one parser.

    `arrived` is the number of characters of the answer so far. `thoughts` are its blocks of reasoning, those that are
    dropped included, as (start, end) in characters of the answer; the tags around them are outside.
    """

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self.held = False
        self.arrived = 0
        self.thoughts: list[tuple[int, int]] = []

    @property
    def position(self) -> int:
        """The number of characters consumed."""
        return self.arrived - len(self.text)

    def take(self, length: int) -> str:
        """Consume `length` characters and return them."""
        taken, self.text = self.text[:length], self.text[length:]
        return taken

    def push_back(self, text: str) -> None:
        """Put text back in front; usually what was consumed last."""
        self.text = text + self.text

    def skip_space(self) -> ParserCoroutine[str]:
        """Consume whitespace up to the first other character or the end, and return it."""
        while not (rest := self.text.lstrip()) and not self.ended:
            yield None
        return self.take(len(self.text) - len(rest))

    def accept(self, *tags: str, after_space: bool = False) -> ParserCoroutine[str]:
        """Consume the tag that the text begins with and return it; else consume nothing and return "".

        `after_space`: whitespace before the tag is allowed and consumed with it.
        """
        while True:
            text = self.text.lstrip() if after_space else self.text
            for tag in tags:
                if text.startswith(tag):
                    self.text = text[len(tag) :]
                    return tag
            if self.ended or not any(tag.startswith(text) for tag in tags):
                return ""
            yield None

    def read_until(self, *tags: str, keep: bool = False) -> ParserCoroutine[tuple[str, str]]:
        """Consume up to the first of the tags without emitting: (text before, tag), or (rest, "") at the end.

        `keep`: the tag itself is not consumed. Without tags the whole answer is read.
        """
        searched = 0
        while True:
            at, tag = find_first(self.text, tags, searched)
            if tag or self.ended:
                before = self.take(at)
                if not keep:
                    self.take(len(tag))
                return before, tag
            searched = max(0, len(self.text) - max(map(len, tags), default=1) + 1)
            yield None

    def emit_until(self, emit: Callable[[str], Delta], *tags: str, trim: bool = False) -> ParserCoroutine[str]:
        """Emit text as it arrives, up to the first of the tags; consume and return the tag, "" at the end.

        What may be the start of a tag is held back until that is clear. `trim`: so is whitespace, which is dropped
        before a tag and at the end.
        """
        start = self.position
        while True:
            at, tag = find_first(self.text, tags)
            settled = bool(tag) or self.ended
            ready = self.text[: at if settled else at - partial_match_len(self.text, tags)]
            if trim:
                ready = ready.rstrip()
            self.take(at + len(tag) if settled else len(ready))
            if settled and emit in (reasoning, discard):
                self.thoughts.append((start, self.position - len(tag)))
            yield emit(ready)
            if settled:
                return tag
            yield None


class StreamParser:
    """Runs one coroutine over one answer. Not thread safe: belongs to the task that reads the answer."""

    def __init__(self, read: Callable[[TextBuffer], ParserCoroutine[None]]) -> None:
        self._buffer = TextBuffer()
        self._steps = read(self._buffer)

    @property
    def thoughts(self) -> Sequence[tuple[int, int]]:
        """The blocks of reasoning that have ended, as (start, end) in characters of all text that was fed."""
        return self._buffer.thoughts

    def feed(self, text: str, final: bool = False, held: bool = False) -> Iterator[Delta]:
        """Deltas for the next chunk of the answer; iterate to the end before the next call.

        `final`: `text` is the last chunk, so what was held back is emitted too. `held`: a grammar holds it to the
        format of a call, and if the answer ends so, what is left of the call is no content. Raises what the coroutine
        raises, after the deltas of everything before the fault.
        """
        buffer = self._buffer
        buffer.text += text
        buffer.arrived += len(text)
        if text:
            buffer.held = held
        yield from self._resume()
        if final:
            buffer.ended = True
            for delta in self._resume():
                if delta.content and buffer.held:
                    delta = replace(delta, content="")
                if delta != _EMPTY:
                    yield delta

    def _resume(self) -> Iterator[Delta]:
        """What the coroutine emits until it needs more text."""
        for delta in self._steps:
            if delta is None:
                return
            if delta != _EMPTY:
                yield delta


def find_first(text: str, tags: tuple[str, ...], start: int = 0) -> tuple[int, str]:
    """Position of the first of the tags in `text`, and the tag; (length of `text`, "") if there is none."""
    places = [(at, tag) for tag in tags if (at := text.find(tag, start)) >= 0]
    return min(places, default=(len(text), ""))


def complete(text: str, end: str) -> str:
    """`text` up to the last `end`, this included; "" if there is none."""
    before, found, _ = text.rpartition(end)
    return before + found


def partial_match_len(text: str, tags: tuple[str, ...]) -> int:
    """Number of characters at the end of `text` that could be the beginning of a tag."""
    longest = max(map(len, tags), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in tags):
            return length
    return 0


def discard(text: str) -> Delta:
    """An empty delta, for text that is dropped."""
    return _EMPTY


def content(text: str) -> Delta:
    """A delta of content."""
    return Delta(content=text)


def reasoning(text: str) -> Delta:
    """A delta of reasoning."""
    return Delta(thinking=text)


def emitted(calls: Iterable[ToolCall]) -> Iterator[Delta]:
    """One delta for each tool call."""
    for call in calls:
        yield Delta(tool_calls=(call,))
