"""Passes of a real context, without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.runner.batch import Batch
from engine.runner.context import Context
from engine.runner.llamacpp import C
from engine.runner.shape import Shape
from tests.engine.runner.harness import TINYCHAT, load

Logits = npt.NDArray[np.float32]


def tokens(count: int, seed: int = 0) -> list[int]:
    """Tokens that every model has, and that say nothing."""
    return [int(token) for token in np.random.default_rng(seed).integers(5, 250, count)]


class Passes:
    """A context of this shape, and what its passes return. `close` frees the model."""

    def __init__(self, shape: Shape, path: Path = TINYCHAT, **wishes: Any) -> None:
        self.context = Context(load(path=str(path), **wishes), shape, 8, lambda progress: None)
        self._batch = Batch(self.context.n_batch)

    def run(self, seq: int, new: Sequence[int], start: int = 0) -> Logits:
        """One pass over tokens of a sequence from position `start`; the logits of the last one."""
        self._batch.clear()
        self._batch.add(seq, new, start, output=True)
        assert self.context.decode(self._batch) == 0
        return self.context.logits(1)[0].copy()

    def rows(self, seqs: Sequence[int], start: int, token: int = 7) -> Logits:
        """One pass with a row for each of these, all at position `start`."""
        self._batch.clear()
        self._batch.add_row(seqs, [token] * len(seqs), [start] * len(seqs))
        assert self.context.decode(self._batch) == 0
        return self.context.logits(len(seqs)).copy()

    def length(self, seq: int) -> int:
        """Positions that a sequence holds."""
        last: int = C.llama_memory_seq_pos_max(C.llama_get_memory(self.context._ctx), seq)
        return last + 1

    def close(self) -> None:
        self.context.close()
