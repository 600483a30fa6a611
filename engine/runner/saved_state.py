"""The cells of one sequence outside of llama.cpp's cache, on their way from one place to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORD = 4  # bytes
HEAD = 3  # words: magic number, sequence id, number of streams
MOST_STREAMS = 256  # that llama.cpp has

Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class SavedState:
    """What `llama_state_seq_get_data` wrote into `data[start:end]`; behind it is room for the counts of more streams.

    llama.cpp writes a count for each stream of the context, 0 for all but the sequence's own, and refuses a state that
    was written in a context with another number of streams. `streams` is that number if the state is only good for such
    a context. It is 0 if the state has nothing but its sequence's cells between the counts: then `fit` writes the
    counts anew.
    """

    data: Bytes
    start: int
    end: int
    streams: int

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory."""
        return self.data.nbytes

    def fits(self, streams: int) -> bool:
        """Whether it is good for a context with so many streams."""
        return self.streams in (0, streams)

    def fit(self, streams: int) -> Bytes | None:
        """The bytes for a context with so many streams; None if it is not for such a context."""
        if not self.fits(streams):
            return None
        if self.streams:
            return self.data[self.start : self.end]
        self.data[self.start + 2 * WORD :][:WORD].view(np.uint32)[0] = streams
        end = self.end + WORD * (streams - 1)
        self.data[self.end : end] = 0
        return self.data[self.start : end]


def buffer(size: int) -> Bytes:
    """Memory for a state of `size` bytes and the counts of all streams that a context can have."""
    return np.empty(-(-size // WORD) * WORD + WORD * MOST_STREAMS, np.uint8)


def portable(data: Bytes, size: int, streams: int) -> SavedState:
    """The state of `size` bytes at the beginning of `data`, so that it fits contexts with any number of streams.

    It is for models whose memory is one KV cache and was written in a context with `streams` streams.
    """
    words = data[: WORD * (HEAD + streams)].view(np.uint32)
    empty_before = int((words[HEAD:] != 0).argmax())
    words[empty_before : empty_before + HEAD] = words[:HEAD].copy()
    return SavedState(data, WORD * empty_before, size - WORD * (streams - 1 - empty_before), streams=0)
