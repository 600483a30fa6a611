"""Comparing beginnings of token lists."""

from __future__ import annotations

from array import array

CHUNK = 256  # tokens compared at once


def common_prefix(a: array[int], b: array[int], limit: int) -> int:
    """Length of the common beginning of two token arrays, at most `limit`."""
    limit = min(limit, len(a), len(b))
    with memoryview(a) as left, memoryview(b) as right:
        at = 0
        while at + CHUNK <= limit and left[at : at + CHUNK].tobytes() == right[at : at + CHUNK].tobytes():
            at += CHUNK
    while at < limit and a[at] == b[at]:
        at += 1
    return at
