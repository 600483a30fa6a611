"""Finds where calls begin in the text of an answer, while it is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.messages import Triggers

_SPACE = b" \t\r\n"


class Trigger(NamedTuple):
    """A trigger that has come: the number of bytes since its start, and those of them that follow it."""

    length: int
    behind: int


class CallWatch:
    """Watches one answer for its triggers; keeps no more of the text than may belong to one."""

    def __init__(self, triggers: Triggers) -> None:
        self._tags = _encoded(triggers.tags)
        self._starts = _encoded(triggers.starts)
        opening, self._closing = (tag.encode() for tag in triggers.thinking)
        self._opening = opening.lstrip(_SPACE)
        self._thinking = triggers.begun
        self._leading = True  # only reasoning and whitespace have come
        self._text = b""

    @property
    def over(self) -> bool:
        """Whether nothing that may follow is a trigger."""
        return not self._tags and not self._leading

    @property
    def kept(self) -> int:
        """The number of bytes at the end of the text that may belong to a trigger."""
        return len(self._text)

    def restart(self) -> None:
        """Go on behind a call, none of whose text was fed."""
        self._text, self._leading = b"", False

    def feed(self, data: bytes) -> Trigger | None:
        """Add text; returns the trigger that is complete with it."""
        self._text += data
        while (found := self._next()) is not None:
            at, tag = found
            length = len(self._text) - at
            self._text = self._text[at + len(tag) :]
            if tag in (self._opening, self._closing):
                self._thinking = tag == self._opening
            else:
                return Trigger(length, len(self._text))
        return None

    def _next(self) -> tuple[int, bytes] | None:
        """The first tag in the text that counts there, with its place."""
        if self._thinking:
            return self._find((self._closing,))
        if self._leading:
            text = self._text.lstrip(_SPACE)
            # Models that skip their reasoning may close it all the same.
            tags = [tag for tag in (self._opening, self._closing, *self._starts) if tag]
            for tag in tags:
                if text.startswith(tag):
                    return len(self._text) - len(text), tag
            if any(tag.startswith(text) for tag in tags):
                return None
            self._leading = False
        return self._find((self._opening, *self._tags))

    def _find(self, tags: Iterable[bytes]) -> tuple[int, bytes] | None:
        tags = list(filter(None, tags))
        places = [(at, tag) for tag in tags if (at := self._text.find(tag)) >= 0]
        if not places:
            longest = max(map(len, tags), default=1) - 1
            self._text = self._text[max(0, len(self._text) - longest) :]
        return min(places, default=None)


def _encoded(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)
