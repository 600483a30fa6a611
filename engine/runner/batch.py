"""The tokens of one forward pass (`llama_batch`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.runner.llamacpp import C

Rows = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]


class Batch:
    """At most `capacity` tokens, in numpy arrays that llama.cpp reads in place. Owned by the loop thread."""

    causal = True  # no token sees those behind it

    def __init__(self, capacity: int) -> None:
        self.size = 0
        self.capacity = capacity
        self.token = np.empty(capacity, np.int32)
        self.pos = np.empty(capacity, np.int32)
        self.seq = np.empty(capacity, np.int32)
        self.output = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        self._seq_at = self.seq.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._offsets = np.arange(capacity, dtype=np.int32)
        self._struct = C.llama_batch(
            n_tokens=0,
            token=self.token.ctypes.data_as(ctypes.POINTER(C.llama_token)),
            embd=None,
            pos=self.pos.ctypes.data_as(ctypes.POINTER(C.llama_pos)),
            n_seq_id=self._one.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._seq_at.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id))),
            logits=self.output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def room(self) -> int:
        """How many more tokens fit."""
        return self.capacity - self.size

    def clear(self) -> None:
        """Start a new pass."""
        self.size = 0

    def add_row(self, seqs: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> None:
        """Add one token of each of several sequences, all with logits."""
        end = self.size + len(tokens)
        self.token[self.size : end] = tokens
        self.pos[self.size : end] = positions
        self.seq[self.size : end] = seqs
        self.output[self.size : end] = 1
        self.size = end

    def add(self, seq: int, tokens: Sequence[int], pos: int, *, output: bool) -> None:
        """Add consecutive tokens of one sequence, the first at position `pos`; `output`: want the last one's logits."""
        end = self.size + len(tokens)
        self.token[self.size : end] = tokens
        self.pos[self.size : end] = self._offsets[: len(tokens)] + pos
        self.seq[self.size : end] = seq
        self.output[self.size : end] = 0
        self.output[end - 1] = output
        self.size = end

    def add_all(self, seq: int, tokens: Sequence[int], pos: int) -> None:
        """Add consecutive tokens of one sequence, the first at position `pos`, with output of each: for embeddings."""
        start = self.size
        self.add(seq, tokens, pos, output=True)
        self.output[start : self.size] = 1

    def as_struct(self) -> C.llama_batch:
        """The batch as llama.cpp takes it; valid until the batch changes."""
        self._struct.n_tokens = self.size
        return self._struct


class RowsBatch:
    """Consecutive rows of one chunk of a medium, for a pass of their own: llama.cpp takes them with no tokens beside.

    `rows` is float32, rows × width; `positions` int32, sections × rows. Unless `causal` all rows see each other.
    `output`: want the last row's logits.
    """

    def __init__(self, seq: int, rows: Rows, positions: Positions, *, causal: bool, output: bool) -> None:
        self.size = len(rows)
        self.causal = causal
        rows, positions = np.ascontiguousarray(rows), np.ascontiguousarray(positions)
        ones, seqs = np.ones(self.size, np.int32), np.full(self.size, seq, np.int32)
        seq_at = seqs.ctypes.data + 4 * np.arange(self.size, dtype=np.uintp)
        outputs = np.zeros(self.size, np.int8)
        outputs[-1] = output
        self._arrays = rows, positions, ones, seqs, seq_at, outputs  # read by llama.cpp in place
        self._struct = C.llama_batch(
            n_tokens=self.size,
            token=None,
            embd=rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            pos=positions.ctypes.data_as(ctypes.POINTER(C.llama_pos)),
            n_seq_id=ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=seq_at.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id))),
            logits=outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def as_struct(self) -> C.llama_batch:
        """The batch as llama.cpp takes it."""
        return self._struct
