"""The text of one answer as it arrives, and the machine that reads it.

A format is written as a script: a generator that reads the tape from left to right and yields what it recognised.
Where it needs more text it yields None, and the machine resumes it with the next piece. A script sees text only
through the methods of `TextBuffer`, and these decide nothing that later text could overturn: how an answer is cut into
pieces never changes what comes out. What a script yields may be empty; the machine drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from engine.api import Delta, ToolCall
from engine.errors import EngineError

T = TypeVar("T")
ParserCoroutine = Generator[Delta | None, None, T]
_EMPTY = Delta()


class TextBuffer:
    """Text that has arrived and was not consumed yet. `ended` says that no more will come.

    Tags given to one call must not be the beginning of one another. Belongs to one machine.
    """

    def __init__(self) -> None:
        self.text = ""
        self.ended = False

    def take(self, length: int) -> str:
        """Consume so many characters."""
        taken, self.text = self.text[:length], self.text[length:]
        return taken

    def push_back(self, text: str) -> None:
        """Put back what was consumed last."""
        self.text = text + self.text

    def skip_space(self) -> ParserCoroutine[str]:
        """Consume whitespace up to the first character that is none, or to the end; what it was."""
        while not (rest := self.text.lstrip()) and not self.ended:
            yield None
        return self.take(len(self.text) - len(rest))

    def accept(self, *tags: str, after_space: bool = False) -> ParserCoroutine[str]:
        """Consume the tag that the text begins with and return it; "" (and nothing consumed) if it begins otherwise.

        `after_space`: whitespace may stand before the tag and is consumed with it.
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
        """Consume silently up to the first of the tags: (text before, tag), or (rest, "") at the end.

        The tag is consumed too, or left where it is with `keep`. Without tags that is all there is.
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
        """Emit text as it comes up to the first of the tags; the tag is consumed and returned, "" at the end.

        What may be the start of a tag waits until that is clear. `trim`: whitespace waits too, and is dropped
        before a tag and at the end.
        """
        while True:
            at, tag = find_first(self.text, tags)
            settled = bool(tag) or self.ended
            ready = self.text[: at if settled else at - partial_match_len(self.text, tags)]
            if trim:
                ready = ready.rstrip()
            self.take(at + len(tag) if settled else len(ready))
            yield emit(ready)
            if settled:
                return tag
            yield None


class StreamParser:
    """Reads one answer with one script. Not thread safe: belongs to the task that reads the answer."""

    def __init__(self, script: Callable[[TextBuffer], ParserCoroutine[None]]) -> None:
        self._buffer = TextBuffer()
        self._steps = script(self._buffer)

    def feed(self, text: str, final: bool = False) -> Iterator[Delta]:
        """What the answer says, now that it goes on with `text`; iterate to the end before the next call.

        `final`: nothing comes after `text`, so what was held back is given out too. Raises what the script raises,
        after everything that stood before the fault.
        """
        self._buffer.text += text
        self._buffer.ended = final
        for delta in self._steps:
            if delta is None:
                return
            if delta != _EMPTY:
                yield delta


def find_first(text: str, tags: tuple[str, ...], start: int = 0) -> tuple[int, str]:
    """Where the first of the tags begins, and which it is; (length of the text, "") if there is none."""
    places = [(at, tag) for tag in tags if (at := text.find(tag, start)) >= 0]
    return min(places, default=(len(text), ""))


def partial_match_len(text: str, tags: tuple[str, ...]) -> int:
    """How many characters at the end of `text` could be the beginning of a tag."""
    longest = max(map(len, tags), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in tags):
            return length
    return 0


def discard(text: str) -> Delta:
    """A piece of the answer that nobody reads."""
    return _EMPTY


def content(text: str) -> Delta:
    """A piece of what the user reads."""
    return Delta(content=text)


def reasoning(text: str) -> Delta:
    """A piece of the model's reasoning."""
    return Delta(thinking=text)


# Tool calls on their way from a model's text to the answer.


class MalformedCall(EngineError):
    """The model began a tool call that cannot be read, in a format where that fails the answer; `str()` says why."""


class Unreadable(ValueError):
    """A text is not what it should be; `str()` says why. Never leaves the parsers."""


def emitted(calls: Iterable[ToolCall]) -> Iterator[Delta]:
    """One delta for each call."""
    for call in calls:
        yield Delta(tool_calls=(call,))
