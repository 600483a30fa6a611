"""What is read out of a run."""

from __future__ import annotations

import pytest

from bench.run import Run

RUN = Run(first=(1.0, 2.0, 4.0), end=(5.0, 8.0, 10.0), tokens=(9, 9, 9))


def test_decode_rate_leaves_the_first_token_out() -> None:
    assert RUN.decode_rate == pytest.approx(8 / 4)


def test_total_rate_lasts_until_the_last_stream_ends() -> None:
    assert RUN.total_rate == pytest.approx(27 / 10)


def test_first_tokens() -> None:
    assert (RUN.median_first, RUN.worst_first) == (2.0, 4.0)
