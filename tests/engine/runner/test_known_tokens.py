"""How much of known tokens another sequence may begin with."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runner.known_tokens import CHUNK, KnownTokens, Reuse, common_prefix

GRID = 4
PROMPT = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
ANSWER = [11, 12, 13]
KNOWN = KnownTokens(array("i", PROMPT + ANSWER), n_prompt=len(PROMPT), on_grid=8)


def usable(tokens: list[int], reuse: Reuse, held: int = len(KNOWN.tokens), known: KnownTokens = KNOWN) -> int:
    return known.usable(array("i", tokens), reuse, GRID, held)


@given(st.integers(0, 3 * CHUNK), st.integers(0, 300), st.integers(0, 300), st.integers(0, 4 * CHUNK))
def test_a_common_prefix_is_as_long_as_the_tokens_are_equal(same: int, left: int, right: int, limit: int) -> None:
    a = array("i", [7] * same + [1] * left)
    b = array("i", [7] * same + [2] * right)
    assert common_prefix(a, b, limit) == min(same, limit)


@given(st.integers(0, 2 * CHUNK), st.integers(0, 2 * CHUNK))
def test_what_is_equal_behind_a_difference_does_not_count(before: int, behind: int) -> None:
    a = array("i", [7] * before + [1] + [7] * behind)
    b = array("i", [7] * before + [2] + [7] * behind)
    assert common_prefix(a, b, len(a)) == before


def test_arrays_can_grow_after_they_were_compared() -> None:
    a, b = array("i", [1, 2]), array("i", [1, 3])
    common_prefix(a, b, 2)
    a.append(4)
    assert common_prefix(a, a, 9) == 3


@pytest.mark.parametrize(
    ("reuse", "goes_on", "in_the_answer", "in_the_prompt", "in_the_grid"),
    [
        (Reuse.ANY, 13, 11, 9, 5),
        (Reuse.CHAT, 13, 11, 8, 4),
        (Reuse.STEADY, 8, 8, 8, 4),
        (Reuse.NONE, 0, 0, 0, 0),
    ],
)
def test_each_kind_takes_what_it_may(
    reuse: Reuse, goes_on: int, in_the_answer: int, in_the_prompt: int, in_the_grid: int
) -> None:
    assert usable([*PROMPT, *ANSWER, 99, 99], reuse) == goes_on
    assert usable([*PROMPT, ANSWER[0], 99], reuse) == in_the_answer
    assert usable([*PROMPT[:9], 99, 99], reuse) == in_the_prompt
    assert usable([*PROMPT[:5], 99, 99], reuse) == in_the_grid
    assert usable([99, *PROMPT], reuse) == 0


@pytest.mark.parametrize(("reuse", "length"), [(Reuse.ANY, 9), (Reuse.CHAT, 8), (Reuse.STEADY, 8)])
def test_the_same_prompt_again_computes_its_last_token(reuse: Reuse, length: int) -> None:
    assert usable(PROMPT, reuse) == length
    assert usable(PROMPT[:8], reuse) == (7 if reuse is Reuse.ANY else 4)
    assert usable(PROMPT[:1], reuse) == 0


@pytest.mark.parametrize("reuse", [Reuse.CHAT, Reuse.STEADY])
def test_what_was_not_computed_on_the_grid_is_not_taken(reuse: Reuse) -> None:
    loose = KnownTokens(KNOWN.tokens, KNOWN.n_prompt, on_grid=0)
    uneven = KnownTokens(KNOWN.tokens, KNOWN.n_prompt, on_grid=7)
    assert usable([*PROMPT[:9], 99], reuse, known=loose) == 0
    assert usable([*PROMPT[:9], 99], reuse, known=uneven) == 4


@pytest.mark.parametrize(("reuse", "length"), [(Reuse.ANY, 6), (Reuse.CHAT, 4), (Reuse.STEADY, 4)])
def test_no_more_is_taken_than_is_held(reuse: Reuse, length: int) -> None:
    assert usable([*PROMPT, *ANSWER, 99], reuse, held=6) == length
    assert usable([*PROMPT, *ANSWER, 99], reuse, held=0) == 0


def test_a_prompt_of_which_a_part_is_held_is_no_conversation_that_goes_on() -> None:
    assert usable([*PROMPT, 99], Reuse.CHAT, held=9) == 8


TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=20)


@given(TOKENS, TOKENS, st.integers(1, 20), st.integers(0, 20), st.integers(0, 20), st.sampled_from(Reuse))
def test_all_kinds_take_common_tokens_that_are_held_and_leave_one(
    known: list[int], tokens: list[int], n_prompt: int, on_grid: int, held: int, reuse: Reuse
) -> None:
    known_tokens = KnownTokens(array("i", known), n_prompt, on_grid)
    length = usable(tokens, reuse, held, known_tokens)
    assert 0 <= length < len(tokens)
    assert length <= held
    assert known[:length] == tokens[:length]
    most = usable(tokens, Reuse.ANY, held, known_tokens)
    assert length <= most
    if reuse is Reuse.STEADY:
        assert length % GRID == 0
        assert length <= on_grid
    if reuse is Reuse.CHAT and length > on_grid:
        assert length == most >= n_prompt
    if reuse is Reuse.ANY and length < min(held, len(known), len(tokens) - 1):
        assert known[length] != tokens[length]
