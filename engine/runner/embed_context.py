"""The context that gives vectors: beside the one that generates, on the same weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.messages import EmbeddingSizes
from engine.runner.batch import Batch
from engine.runner.context import ABORTED, Context, DecodeError
from engine.runner.llamacpp import C

SEQUENCES = 64  # texts of one pass

Vector = npt.NDArray[np.float32]


class Embedder:
    """A llama.cpp context that pools. Owned by the loop thread; `close` it before the context that it stands beside.

    Running answers lose nothing to it but time: its cache, if the architecture has one, is its own. `capacity` is
    how many tokens and `sequences` how many texts fit into one pass. `mean`: a vector is the mean over its tokens.
    Raises ModelError when made.
    """

    def __init__(self, context: Context, sizes: EmbeddingSizes) -> None:
        params = context.params()
        params.embeddings = True
        params.pooling_type = C.LLAMA_POOLING_TYPE_MEAN if sizes.mean else C.LLAMA_POOLING_TYPE_UNSPECIFIED
        params.n_batch = params.n_ubatch = _padded(sizes.batch)
        params.n_ctx = sizes.longest + params.n_batch  # one text that is on its way, and whole ones beside it
        params.n_seq_max = SEQUENCES if context.can_cut else 1  # a recurrent state is large, used or not
        self._ctx = context.beside(params)
        if not self.splits and sizes.longest > params.n_batch:
            C.llama_free(self._ctx)
            params.n_batch = params.n_ubatch = _padded(sizes.longest)
            self._ctx = context.beside(params)
        self.threads = context.threads_beside(self._ctx)
        self._memory = C.llama_get_memory(self._ctx)
        self._width = context.embedding_width
        self.mean: bool = C.llama_pooling_type(self._ctx) == C.LLAMA_POOLING_TYPE_MEAN
        self.capacity: int = C.llama_n_ubatch(self._ctx)
        self.sequences: int = params.n_seq_max

    @property
    def splits(self) -> bool:
        """Whether a text may come in several passes: its tokens see only those before, and its last ones count."""
        of_first = C.llama_pooling_type(self._ctx) == C.LLAMA_POOLING_TYPE_CLS
        return bool(C.llama_get_memory(self._ctx)) and C.llama_get_causal_attn(self._ctx) and not of_first

    def compute(self, batch: Batch) -> bool:
        """One pass; False if it was aborted. Raises DecodeError."""
        run = C.llama_decode if self._memory else C.llama_encode
        code = run(self._ctx, batch.as_struct())
        if code not in (0, ABORTED):
            raise DecodeError(f"the pass of texts returned {code}")
        return bool(code == 0)

    def vector(self, seq: int) -> Vector:
        """What the tokens of a sequence in the last pass have come to."""
        return np.ctypeslib.as_array(C.llama_get_embeddings_seq(self._ctx, seq), (self._width,)).copy()

    def forget(self, seq: int) -> None:
        """Free what a sequence holds."""
        if self._memory:
            C.llama_memory_seq_rm(self._memory, seq, -1, -1)

    def wipe(self) -> None:
        """Forget all sequences, and the numbers that they have left behind."""
        if self._memory:
            C.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free the context. Nothing may be called afterwards."""
        C.llama_free(self._ctx)


def _padded(tokens: int) -> int:
    """The size of a pass that llama.cpp can plan for: as many tokens of each sequence."""
    return -(-tokens // SEQUENCES) * SEQUENCES
