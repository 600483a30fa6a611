"""The llama.cpp context that embeds, beside the one that generates, on the same weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.embed_messages import EmbeddingSizes
from engine.runner.batch import Batch
from engine.runner.context import ABORTED, CACHE_TYPES, Context, DecodeError
from engine.runner.llamacpp import C

SEQUENCES = 64  # texts in one pass, at most
STEADY_LENGTH = 2048  # tokens; up to this length the slower kernel with reproducible sums is affordable

Vector = npt.NDArray[np.float32]


class EmbedContext:
    """A context with pooling and its own KV cache. Owned by the loop thread; `close` it before the main context.

    A pass holds `capacity` tokens and `sequences` texts. `mean`: a vector is the mean over its tokens. With `ranks`
    vectors are the outputs of the model's classifier. The constructor raises ModelError.
    """

    def __init__(self, context: Context, sizes: EmbeddingSizes, *, ranks: bool = False) -> None:
        params = context.params()
        params.embeddings = True
        # llama.cpp's CPU attention has three kernels, two of which add in float16, and picks one by the tokens in the
        # pass: a text's vector would depend on the others. Values of another 16-bit type leave the float32 kernel.
        if context.can_mix_cache_types and sizes.longest <= STEADY_LENGTH:
            params.type_v = CACHE_TYPES["bf16"]
        params.pooling_type = C.LLAMA_POOLING_TYPE_MEAN if sizes.mean else C.LLAMA_POOLING_TYPE_UNSPECIFIED
        if ranks:
            params.pooling_type = C.LLAMA_POOLING_TYPE_RANK
        params.n_batch = params.n_ubatch = _padded(sizes.batch)
        params.n_ctx = sizes.longest + params.n_batch  # one split text, and whole ones beside it
        params.n_seq_max = SEQUENCES if context.can_cut else 1  # a recurrent state is large, used or not
        self._ctx = context.create_sibling(params)
        if not self.splits and sizes.longest > params.n_batch:
            C.llama_free(self._ctx)
            params.n_batch = params.n_ubatch = _padded(sizes.longest)
            self._ctx = context.create_sibling(params)
        self.threads = context.sibling_threads(self._ctx)
        self._memory = C.llama_get_memory(self._ctx)
        self._width = context.classifier_width if ranks else context.embedding_width
        self.mean: bool = C.llama_pooling_type(self._ctx) == C.LLAMA_POOLING_TYPE_MEAN
        self.capacity: int = C.llama_n_ubatch(self._ctx)
        self.sequences: int = params.n_seq_max

    @property
    def splits(self) -> bool:
        """Whether a text may be split over passes: attention is causal, and not the first token's output counts."""
        of_first = C.llama_pooling_type(self._ctx) == C.LLAMA_POOLING_TYPE_CLS
        return bool(C.llama_get_memory(self._ctx)) and C.llama_get_causal_attn(self._ctx) and not of_first

    def compute(self, batch: Batch) -> bool:
        """One forward pass; False if it was aborted. Raises DecodeError."""
        run = C.llama_decode if self._memory else C.llama_encode
        code = run(self._ctx, batch.as_struct())
        if code not in (0, ABORTED):
            raise DecodeError(f"the pass of texts returned {code}")
        return bool(code == 0)

    def vector(self, seq: int) -> Vector:
        """A copy of a sequence's pooled output of the last pass: float32, (width of embeddings or classifier,)."""
        return np.ctypeslib.as_array(C.llama_get_embeddings_seq(self._ctx, seq), (self._width,)).copy()

    def forget(self, seq: int) -> None:
        """Free a sequence's cells."""
        if self._memory:
            C.llama_memory_seq_rm(self._memory, seq, -1, -1)

    def wipe(self) -> None:
        """Free all cells and zero their data, which may hold NaN."""
        if self._memory:
            C.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free the context; it must not be used afterwards."""
        C.llama_free(self._ctx)


def _padded(tokens: int) -> int:
    """A batch size that llama.cpp can divide evenly among all sequences."""
    return -(-tokens // SEQUENCES) * SEQUENCES
