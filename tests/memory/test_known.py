"""Sums for well-known models hold against what llama.cpp would reserve."""

from __future__ import annotations

import pytest

from tests.memory.headers import KNOWN
from tests.memory.known import Compared, compared
from tests.memory.reserved import MIB, RUNS


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[Compared]:
    return list(compared(tmp_path_factory.mktemp("headers")))


def test_caches_are_as_large_as_llama_cpp_makes_them(figures: list[Compared]) -> None:
    assert len(figures) == len(KNOWN) * len(RUNS)
    for figure in figures:
        assert abs(figure.cache - figure.real_cache) < MIB, figure


def test_buffers_of_a_pass_are_about_what_llama_cpp_reserves(figures: list[Compared]) -> None:
    for figure in figures:
        assert 0.95 < figure.compute / figure.real_compute < 1.25, figure


def test_totals_hold(figures: list[Compared]) -> None:
    for figure in figures:
        assert 0.98 < figure.ratio < 1.15, figure
