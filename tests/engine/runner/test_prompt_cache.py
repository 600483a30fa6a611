"""Which states are kept, which go."""

from __future__ import annotations

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.runner.known_tokens import KnownTokens, Reuse
from engine.runner.prompt_cache import CachedState, PromptCache
from engine.runner.saved_state import SavedState

GRID = 4
LIMIT = 100


def state(tokens: list[int], size: int = 30, *, on_grid: int = 0, n_prompt: int = 0) -> CachedState:
    """The cells of these tokens in so many bytes."""
    known = KnownTokens(array("i", tokens), n_prompt, on_grid)
    return CachedState(known, SavedState(np.zeros(size, np.uint8), 0, size, 0))


def contents(cache: PromptCache) -> list[list[int]]:
    return [entry.tokens.tolist() for entry in cache]


def filled(*entries: CachedState, can_cut: bool = True) -> PromptCache:
    cache = PromptCache(LIMIT, can_cut=can_cut)
    for entry in entries:
        cache.store(entry)
    return cache


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = (state([n]) for n in range(3))
    cache = filled(first, second, third)
    cache.use(first)
    cache.store(state([3]))
    assert contents(cache) == [[2], [0], [3]]
    assert cache.size == 90


def test_as_many_go_as_a_large_one_needs() -> None:
    cache = filled(state([1]), state([2]), state([3]), state([4], 70))
    assert contents(cache) == [[3], [4]]
    assert cache.size == 100


def test_what_is_too_large_is_not_kept_and_drives_nobody_out() -> None:
    cache = filled(state([1]), state([2, 2], LIMIT + 1))
    assert contents(cache) == [[1]]
    cache.store(state([3], 0))
    assert contents(cache) == [[1]]
    cache.store(state([4], LIMIT))
    assert contents(cache) == [[4]]


def test_a_cache_without_memory_keeps_nothing() -> None:
    cache = PromptCache(0, can_cut=True)
    cache.store(state([1], 1))
    assert contents(cache) == []


def test_what_goes_on_replaces_its_beginning() -> None:
    cache = filled(state([1, 2]), state([5]), state([1, 2, 3]))
    assert contents(cache) == [[5], [1, 2, 3]]
    assert cache.size == 60
    assert cache.tokens == 4


def test_a_beginning_does_not_replace_what_goes_on() -> None:
    assert contents(filled(state([1, 2, 3]), state([1, 2]))) == [[1, 2, 3], [1, 2]]


def test_branches_are_kept_beside_each_other() -> None:
    assert contents(filled(state([1, 2, 3]), state([1, 2, 4, 5]))) == [[1, 2, 3], [1, 2, 4, 5]]


def test_the_same_tokens_are_kept_once() -> None:
    cache = filled(state([1, 2], 20), state([1, 2], 30))
    assert contents(cache) == [[1, 2]]
    assert cache.size == 30


def test_cells_of_the_grid_are_not_replaced_by_others() -> None:
    steady, loose = state([1, 2, 3, 4], on_grid=4), state([1, 2, 3, 4, 5])
    assert contents(filled(steady, loose)) == [[1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert contents(filled(loose, state([1, 2, 3, 4, 5], on_grid=4))) == [[1, 2, 3, 4, 5]]


def test_a_state_that_cannot_be_cut_is_replaced_by_its_equal_alone() -> None:
    cache = filled(state([1, 2]), state([1, 2, 3]), can_cut=False)
    assert contents(cache) == [[1, 2], [1, 2, 3]]
    cache.store(state([1, 2, 3]))
    assert contents(cache) == [[1, 2], [1, 2, 3]]


def test_what_is_dropped_frees_its_bytes() -> None:
    entry = state([1])
    cache = filled(entry, state([2]))
    cache.drop(entry)
    assert (contents(cache), cache.size) == ([[2]], 30)
    cache.clear()
    assert (contents(cache), cache.size, cache.tokens) == ([], 0, 0)


TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=10)


@st.composite
def states(draw: st.DrawFn) -> CachedState:
    tokens = draw(TOKENS)
    on_grid = draw(st.integers(0, len(tokens)))
    return state(tokens, draw(st.integers(1, LIMIT + 10)), on_grid=on_grid, n_prompt=draw(st.integers(1, 10)))


@given(st.lists(states(), max_size=12), st.booleans(), st.data())
def test_the_size_is_that_of_the_states_and_within_the_limit(
    entries: list[CachedState], can_cut: bool, data: st.DataObject
) -> None:
    cache = PromptCache(LIMIT, can_cut=can_cut)
    for entry in entries:
        cache.store(entry)
        assert cache.size == sum(kept.state.size for kept in cache) <= LIMIT
        assert (entry in list(cache)) == (entry.state.size <= LIMIT)
        if len(kept := list(cache)) > 1 and data.draw(st.booleans()):
            cache.use(used := data.draw(st.sampled_from(kept)))
            assert list(cache)[-1] is used


@given(st.lists(states(), max_size=8), TOKENS, st.booleans())
def test_replacing_takes_nothing_from_anybody(entries: list[CachedState], tokens: list[int], can_cut: bool) -> None:
    """Whoever comes finds as much as if all were kept."""
    wanted = array("i", tokens)

    def best(kept: list[CachedState], reuse: Reuse) -> int:
        lengths = [(entry.known.usable(wanted, reuse, GRID, len(entry.tokens)), entry) for entry in kept]
        return max((length for length, e in lengths if can_cut or length == len(e.tokens)), default=0)

    cache = PromptCache(10 * LIMIT, can_cut=can_cut)
    for entry in entries:
        cache.store(entry)
    for reuse in (Reuse.ANY, Reuse.STEADY):
        assert best(list(cache), reuse) == best(entries, reuse)
