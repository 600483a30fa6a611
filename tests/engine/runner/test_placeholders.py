"""Ids that stand for media, against a plain model of them: a list of texts and spans."""

from __future__ import annotations

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.runner.known_tokens import KnownTokens, Reuse
from engine.runner.placeholders import Placeholders, last_border, next_border, position_of, whole_spans

GRID = 4
SIZES = {"a": (5, 5), "b": (6, 2), "c": (1, 1), "d": (9, 3)}
"""Rows and positions of each chunk."""

PIECES = st.lists(st.one_of(st.integers(0, 1), st.sampled_from(sorted(SIZES))), max_size=14)


def entries(pieces: list[int | str], placeholders: Placeholders) -> tuple[array[int], list[int], list[int]]:
    """The tokens of these texts and chunks; where something begins or ends; the position at each of these places."""
    tokens, places, positions = array("i"), [0], [0]
    for piece in pieces:
        n_tokens, n_pos = (1, 1) if isinstance(piece, int) else SIZES[piece]
        tokens += array("i", [piece]) if isinstance(piece, int) else placeholders.ids(piece, n_tokens, n_pos)
        places.append(len(tokens))
        positions.append(positions[-1] + n_pos)
    return tokens, places, positions


def borders(pieces: list[int | str], places: list[int]) -> set[int]:
    """Where a steady prompt is divided."""
    ends = {place for (start, place), piece in zip(pairwise(places), pieces, strict=True) if isinstance(piece, str)}
    starts = {start for (start, _), piece in zip(pairwise(places), pieces, strict=True) if isinstance(piece, str)}
    return {0} | ends | starts | {place for place in places if place % GRID == 0}


@given(PIECES)
def test_places_and_positions(pieces: list[int | str]) -> None:
    tokens, places, positions = entries(pieces, Placeholders())
    assert all(token >= 0 or token <= -4 for token in tokens)
    assert [position_of(tokens, place) for place in places] == positions
    for length in range(len(tokens) + 1):
        assert whole_spans(tokens, length) == max(place for place in places if place <= length)


@given(PIECES)
def test_borders(pieces: list[int | str]) -> None:
    tokens, places, _ = entries(pieces, Placeholders())
    known = borders(pieces, places)
    for limit in range(len(tokens) + 1):
        assert last_border(tokens, limit, len(tokens), GRID) == max(at for at in known if at <= limit)
    for start, piece in zip(places, pieces, strict=False):
        if isinstance(piece, int):
            assert next_border(tokens, start, GRID) == min({at for at in known if at > start} | {len(tokens)})


@given(PIECES, PIECES, st.integers(0, 30), st.sampled_from([Reuse.ANY, Reuse.STEADY, Reuse.CHAT]))
def test_what_can_be_reused(mine: list[int | str], others: list[int | str], on_grid: int, reuse: Reuse) -> None:
    """A beginning is divided in the same way in both, and is the same in both."""
    placeholders = Placeholders()
    tokens, places, _ = entries(mine, placeholders)
    other, other_places, _ = entries(others, placeholders)
    theirs = borders(others, other_places)
    on_grid = max(at for at in theirs if at <= on_grid)
    length = KnownTokens(other, len(other), on_grid).usable(tokens, reuse, GRID, len(other))
    assert tokens[:length] == other[:length]
    assert length in places
    assert length in other_places
    assert length < max(len(tokens), 1)
    if reuse is Reuse.STEADY:
        assert length <= on_grid
        assert {at for at in borders(mine, places) if at <= length} == {at for at in theirs if at <= length}


def test_forgotten_chunks_count_as_new() -> None:
    placeholders = Placeholders(remembered=2)
    first = placeholders.ids("a", 3, 3)
    assert placeholders.ids("a", 3, 3) == first
    assert {*placeholders.ids("b", 3, 3)}.isdisjoint(first)
    placeholders.ids("c", 3, 3)
    assert {*placeholders.ids("a", 3, 3)}.isdisjoint(first)
