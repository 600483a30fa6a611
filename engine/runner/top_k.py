"""The largest logits of rows, found without sorting the vocabulary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.runner.penalties import Logits

BLOCK = 128  # logits per maximum, at most
BLOCKS_PER_CANDIDATE = 4  # with fewer blocks for each of the top k, the bound would let too much through
LOWEST = np.finfo(np.float32).min  # the least logit that is not -inf


def top_k_superset(logits: Logits, block: int, k: int) -> npt.NDArray[np.intp]:
    """Flat indexes of a small superset of each row's k largest logits, without those that are -inf.

    At least k blocks have a maximum as large as the k-th largest one, so that is a lower bound. A block is every n-th
    logit of a row: its maximum is that of a column, which numpy vectorises.
    """
    n_rows, n_vocab = logits.shape
    n_blocks = n_vocab // block
    maxima = logits[:, : n_blocks * block].reshape(n_rows, block, n_blocks).max(axis=1)
    bound = np.partition(maxima, n_blocks - k, axis=1)[:, n_blocks - k]
    return np.flatnonzero(logits >= np.maximum(bound, LOWEST)[:, None])


def block_size(n_vocab: int, k: int) -> int:
    """The largest block size that leaves enough blocks for a bound on the top k; 0 if there is none."""
    if k <= 0:
        return 0
    block = BLOCK
    while block > 1 and n_vocab // block < k * BLOCKS_PER_CANDIDATE:
        block //= 2
    return block if n_vocab // block >= k * BLOCKS_PER_CANDIDATE else 0
