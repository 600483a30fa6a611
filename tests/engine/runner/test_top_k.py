"""The superset of the largest logits, beside a comparison of every logit with the same bound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runner.penalties import Logits
from engine.runner.top_k import LOWEST, block_size, top_k_superset

ODD = [np.nan, np.inf, -np.inf, LOWEST, -0.0]


def plain(logits: Logits, block: int, k: int) -> npt.NDArray[np.intp]:
    """All logits that reach the k-th largest maximum of the blocks, row by row."""
    found = []
    n_vocab = logits.shape[1]
    for number, row in enumerate(logits):
        n_blocks = n_vocab // block
        maxima = np.sort([row[start : n_blocks * block : n_blocks].max() for start in range(n_blocks)])
        found.append(np.flatnonzero(row >= np.maximum(maxima[n_blocks - k], LOWEST)) + number * n_vocab)
    return np.concatenate(found)


@settings(max_examples=200)
@given(
    n_rows=st.integers(1, 4),
    n_vocab=st.sampled_from([41, 512, 2048, 3001, 21_000]),
    k=st.sampled_from([1, 2, 8, 40, 120]),
    digits=st.sampled_from([None, 1, 0]),
    odd=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20_999), st.sampled_from(ODD)), max_size=30),
    most=st.sampled_from([None, -np.inf, 0.0]),
    seed=st.integers(0, 10_000),
)
def test_the_same_logits_are_found_as_by_looking_at_all(
    n_rows: int,
    n_vocab: int,
    k: int,
    digits: int | None,
    odd: list[tuple[int, int, float]],
    most: float | None,
    seed: int,
) -> None:
    """With ties, NaN and infinities; `most`: almost all of a row are this number, as under a grammar."""
    if not (block := block_size(n_vocab, k)):
        return
    random = np.random.default_rng(seed)
    logits = random.standard_normal((n_rows, n_vocab)).astype(np.float32)
    if digits is not None:
        logits = logits.round(digits)
    if most is not None:
        logits[random.random(logits.shape) < 0.99] = most
    for row, token, value in odd:
        logits[row % n_rows, token % n_vocab] = value
    found = top_k_superset(logits, block, k)
    assert found.tolist() == plain(logits, block, k).tolist()


@pytest.mark.parametrize("n_vocab", [151_936, 128_256, 32_000, 49_152])
def test_few_more_than_the_largest_are_found_and_all_of_these(n_vocab: int) -> None:
    k = 40
    logits = np.random.default_rng(n_vocab).standard_normal((8, n_vocab)).astype(np.float32)
    found = top_k_superset(logits, block_size(n_vocab, k), k)
    rows, tokens = np.divmod(found, n_vocab)
    for row in range(8):
        best = np.argsort(logits[row])[-k:]
        assert set(best) <= set(tokens[rows == row])
    assert len(found) < 8 * k * 1.5


def test_a_row_without_numbers_has_none() -> None:
    logits = np.full((2, 2048), -np.inf, np.float32)
    logits[1] = np.nan
    assert top_k_superset(logits, block_size(2048, 40), 40).size == 0
