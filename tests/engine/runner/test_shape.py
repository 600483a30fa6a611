"""How the cells of the KV cache are divided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.messages import CONTEXT_PADDING, padded
from engine.runner.shape import GROWTH, Budget, Shape, choose_shape, fits, room_for


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    """As the planner makes them: cells for the longest sequence, and for a shortest stream of each."""
    longest = draw(st.integers(1, 20)) * CONTEXT_PADDING
    streams = draw(st.integers(1, 9))
    least = max(longest, streams * CONTEXT_PADDING)
    return Budget(draw(st.integers(least, streams * longest)), streams, longest)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[int], Budget, Shape]:
    """Needs of those that run and of one that would like to, a budget, and a shape made of it."""
    budget = draw(budgets())
    needs = draw(st.lists(st.integers(1, budget.longest), min_size=1, max_size=budget.streams))
    pool = Shape(budget.streams, budget.cells // CONTEXT_PADDING * CONTEXT_PADDING, unified=True)
    divided = [budget.divided(streams) for streams in range(1, budget.streams + 1)]
    current = draw(st.sampled_from([*(shape for shape in divided if shape.total <= budget.cells), pool]))
    return [*needs, *draw(st.lists(st.integers(1, 5000), max_size=1))], budget, current


def kept(needs: list[int], shape: Shape) -> list[int]:
    """The first of the sequences, as many as fit."""
    return next(needs[:count] for count in range(len(needs), -1, -1) if fits(needs[:count], shape))


def can_hold(needs: list[int], budget: Budget, *, may_unify: bool) -> bool:
    """Whether the budget has any shape for these at once, tried one by one."""
    shapes = [Shape(n, cells) for n in range(1, budget.streams + 1) for cells in range(0, budget.longest + 1, 256)]
    if may_unify:
        shapes.append(Shape(budget.streams, budget.cells // CONTEXT_PADDING * CONTEXT_PADDING, unified=True))
    return any(fits(needs, shape) for shape in shapes if shape.total <= budget.cells)


def test_one_long_sequence_and_seven_short_ones_share_one_pool() -> None:
    budget = Budget(4 * 32768, 8, 32768)
    current = budget.widest
    assert current == Shape(8, 16384)
    assert choose_shape([500] * 7, budget, current) == current
    assert choose_shape([500] * 7 + [30_000], budget, current) == Shape(8, 4 * 32768, unified=True)


def test_a_long_sequence_has_a_stream_while_few_run_beside_it() -> None:
    budget = Budget(4 * 32768, 8, 32768)
    assert choose_shape([500] * 3 + [30_000], budget, budget.widest) == Shape(4, 32768)


def test_who_must_not_share_a_pool_waits() -> None:
    budget = Budget(4 * 32768, 8, 32768)
    assert choose_shape([500] * 7 + [30_000], budget, budget.widest, may_unify=False) == budget.widest


def test_eight_whole_contexts_never_need_another_shape() -> None:
    budget = Budget(8 * 32768, 8, 32768)
    assert budget.widest == Shape(8, 32768)
    assert choose_shape([32768] * 8, budget, budget.widest) == budget.widest
    assert choose_shape([32768], budget, budget.widest) == budget.widest


def test_a_context_of_256k_may_be_used_by_one() -> None:
    budget = Budget(1 << 18, 8, 1 << 18)
    assert budget.widest == Shape(8, 32768)
    assert choose_shape([200_000], budget, budget.widest) == Shape(1, 1 << 18)
    assert choose_shape([200_000] + [500] * 7, budget, budget.widest) == Shape(8, 1 << 18, unified=True)
    assert choose_shape([1 << 18, 500], budget, Shape(1, 1 << 18)) == Shape(1, 1 << 18)


def test_a_budget_of_one_context_is_divided_by_need() -> None:
    budget = Budget(4096, 8, 4096)
    assert budget.widest == Shape(8, 512)
    assert choose_shape([600, 600, 600], budget, budget.widest) == Shape(5, 768)
    assert choose_shape([600, 1100, 600], budget, budget.widest) == Shape(3, 1280)
    assert choose_shape([600, 2000], budget, budget.widest) == Shape(2, 2048)
    assert choose_shape([4096], budget, budget.widest) == Shape(1, 4096)
    assert choose_shape([1500, 1500, 1500], budget, budget.widest) == Shape(2, 2048)


def test_a_shape_that_serves_stays() -> None:
    budget = Budget(4096, 8, 4096)
    assert choose_shape([500, 500], budget, Shape(2, 2048)) == Shape(2, 2048)
    assert choose_shape([500, 500, 500], budget, Shape(2, 2048)) == Shape(8, 512)


def test_a_pool_is_left_as_soon_as_streams_will_do() -> None:
    budget = Budget(4096, 8, 4096)
    pool = Shape(8, 4096, unified=True)
    assert choose_shape([3000, 300, 300], budget, pool) == pool
    assert choose_shape([300, 300], budget, pool) == budget.widest


def test_where_those_that_run_do_not_fit_the_first_ones_do() -> None:
    budget = Budget(4096, 8, 4096)
    assert choose_shape([3000, 1500, 300, 10], budget, budget.widest) == Shape(1, 4096)
    assert choose_shape([1500, 1500, 1500, 10], budget, budget.widest, may_unify=False) == Shape(2, 2048)


def test_a_stream_has_room_to_grow_up_to_the_limit() -> None:
    assert room_for(100, 4096) == 100 + CONTEXT_PADDING
    assert room_for(2048, 4096) == 2048 + 2048 // GROWTH
    assert room_for(4000, 4096) == 4096


def test_cells_are_counted_as_llamacpp_makes_them() -> None:
    assert [padded(n) for n in (1, 256, 257)] == [256, 256, 512]
    assert Shape(4, 512).total == 2048
    assert Shape(4, 512, unified=True).total == 512
    assert Budget(4096, 3, 4096).divided(3) == Shape(3, 1280)
    assert Budget(1 << 20, 3, 1000).divided(3) == Shape(3, 1024)


@given(situations(), st.booleans())
def test_what_is_promised_fits_into_the_budget(situation: tuple[list[int], Budget, Shape], may_unify: bool) -> None:
    needs, budget, current = situation
    shape = choose_shape(needs, budget, current, may_unify=may_unify)
    assert shape.total <= budget.cells
    assert shape.streams <= budget.streams
    assert shape.cells % CONTEXT_PADDING == 0
    assert not shape.unified or may_unify
    assert kept(needs, shape)


@given(situations(), st.booleans())
def test_as_many_start_as_possible_and_nobody_stops_needlessly(
    situation: tuple[list[int], Budget, Shape], may_unify: bool
) -> None:
    needs, budget, current = situation
    count = len(kept(needs, choose_shape(needs, budget, current, may_unify=may_unify)))
    assert count == len(needs) or not can_hold(needs[: count + 1], budget, may_unify=may_unify)


@given(situations(), st.booleans())
def test_the_current_shape_stays_while_it_serves(situation: tuple[list[int], Budget, Shape], may_unify: bool) -> None:
    needs, budget, current = situation
    shape = choose_shape(needs, budget, current, may_unify=may_unify)
    served = kept(needs, shape)
    if fits(served, current) and not current.unified:
        assert shape == current
    elif not shape.unified and shape.streams < budget.streams:
        # Numbers of streams are tried by halves, rounded down: twice as many and one would not do.
        twice = budget.divided(min(2 * shape.streams + 1, budget.streams))
        assert not fits(served, twice)


@given(situations())
def test_a_pool_is_for_those_that_no_streams_can_hold(situation: tuple[list[int], Budget, Shape]) -> None:
    needs, budget, current = situation
    shape = choose_shape(needs, budget, current)
    if shape.unified:
        served = kept(needs, shape)
        assert not can_hold(served, budget, may_unify=False)
        assert len(kept(needs, choose_shape(needs, budget, current, may_unify=False))) <= len(served)


@given(situations(), st.booleans())
def test_the_choice_is_stable(situation: tuple[list[int], Budget, Shape], may_unify: bool) -> None:
    needs, budget, current = situation
    shape = choose_shape(needs, budget, current, may_unify=may_unify)
    assert choose_shape(kept(needs, shape), budget, shape, may_unify=may_unify) == shape
