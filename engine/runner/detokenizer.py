"""Token bytes to text that may be shown: whole UTF-8 characters, and never a part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache

REPEAT_LIMIT = 30  # more equal tokens in a row than this are taken for an endless loop

_new_decoder = codecs.getincrementaldecoder("utf-8")


@lru_cache(1 << 16)
def _whole(piece: bytes) -> str | None:
    """The text of a token that consists of whole characters; None for others."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


class IncrementalDetokenizer:
    """Decodes one sequence's tokens and looks for stop strings. Owned by the loop thread.

    Text that may still become a stop string is held back. `stopped`: a stop string was completed; it and all behind it
    are dropped; `stop` is that string. `looping`: more than REPEAT_LIMIT tokens in a row were equal, white space aside.
    """

    __slots__ = ("_decoder", "_held", "_incomplete", "_last", "_repeats", "_stops", "looping", "stop", "stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = _new_decoder("replace")
        self._stops = tuple(s for s in stops if s)
        self._incomplete = False  # the decoder has a part of a character
        self._held = ""
        self._last = b""
        self._repeats = 0
        self.stop = ""
        self.stopped = False
        self.looping = False

    @property
    def n_held(self) -> int:
        """Number of characters held back."""
        return len(self._held)

    @property
    def settled(self) -> bool:
        """Whether nothing waits: no stop string can begin in what was fed, and no character is incomplete."""
        return not (self._held or self.stopped or self._incomplete)

    def feed(self, piece: bytes) -> str:
        """Add one token's bytes; returns the text that can be shown now, maybe ""."""
        self._watch_for_loop(piece)
        text = None if self._incomplete else _whole(piece)
        if text is None:
            text = self._decoder.decode(piece)
            self._incomplete = bool(self._decoder.getstate()[0])
        if not self._stops:
            return text
        text = self._held + text
        end, stop = self._find_stop(text)
        if end >= 0:
            self.stop, self.stopped = stop, True
            self._held = ""
            return text[:end]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text held back, at the end of the answer. An incomplete character is dropped."""
        held, self._held = self._held, ""
        return held

    def _find_stop(self, text: str) -> tuple[int, str]:
        """Index of the first stop string in `text`, and the string; -1 if there is none."""
        return min(((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0), default=(-1, ""))

    def _undecided(self, text: str) -> int:
        """Length of the longest suffix of `text` that is a prefix of a stop string."""
        longest = 0
        for stop in self._stops:
            at = text.find(stop[0], max(len(text) - len(stop) + 1, 0))
            while at >= 0:
                if stop.startswith(text[at:]):
                    longest = max(longest, len(text) - at)
                    break
                at = text.find(stop[0], at + 1)
        return longest

    def _watch_for_loop(self, piece: bytes) -> None:
        trimmed = piece.strip()
        if trimmed == self._last:
            self._repeats += 1
            self.looping = self._repeats > REPEAT_LIMIT
        else:
            self._last = trimmed
            self._repeats = 1
