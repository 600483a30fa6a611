"""The largest logits of rows, found without sorting the vocabulary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.runner.penalties import Logits

BLOCK = 128  # logits per maximum, at most
GROUP = 16  # of these; so many are looked at for each one that is large enough
BLOCKS_PER_CANDIDATE = 4  # with fewer blocks for each of the top k, the bound would let too much through
LOWEST = np.finfo(np.float32).min  # the least logit that is not -inf


def top_k_superset(logits: Logits, block: int, k: int) -> npt.NDArray[np.intp]:
    """Flat indexes, ascending, of a small superset of each row's k largest logits, without those that are -inf.

    At least k blocks have a maximum as large as the k-th largest one, so that is a lower bound. A block is every n-th
    logit of a row, and so are the groups that it consists of: their maxima are those of columns, which numpy
    vectorises. All logits of a large vocabulary are read once, then only the groups with one that reaches the bound.
    """
    n_rows, n_vocab = logits.shape
    n_blocks = n_vocab // block
    end = n_blocks * block  # those behind are in no block
    group = min(block, GROUP)
    width = n_blocks * min(block // group, 2)  # of the columns: wide ones keep numpy's inner loop long
    groups = logits[:, :end].reshape(n_rows, -1, group, width).max(axis=2)
    blocks = groups.reshape(n_rows, -1, n_blocks).max(axis=1)
    blocks.partition(n_blocks - k, axis=1)
    bound = np.maximum(blocks[:, n_blocks - k, None], LOWEST)
    if block == group or np.isnan(blocks).any():  # a group with a NaN may have what reaches the bound, too
        return np.flatnonzero(logits >= bound)
    row, column = np.divmod((groups.reshape(n_rows, -1) >= bound).reshape(-1).nonzero()[0], end // group)
    piece, column = np.divmod(column, width)
    places = (row * n_vocab + piece * (group * width) + column)[:, None] + np.arange(group) * width
    found: npt.NDArray[np.intp] = places[logits.reshape(-1)[places] >= bound[row]]
    if end < n_vocab:
        row, column = (logits[:, end:] >= bound).nonzero()
        found = np.concatenate([found, row * n_vocab + (end + column)])
    found.sort()
    return found


def block_size(n_vocab: int, k: int) -> int:
    """The largest block size that leaves enough blocks for a bound on the top k; 0 if there is none."""
    if k <= 0:
        return 0
    block = BLOCK
    while block > 1 and n_vocab // block < k * BLOCKS_PER_CANDIDATE:
        block //= 2
    return block if n_vocab // block >= k * BLOCKS_PER_CANDIDATE else 0
