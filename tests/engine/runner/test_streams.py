"""Who holds which stream, against a fake memory that knows what every cell was computed from."""

from __future__ import annotations

import logging
from array import array
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.runner.known_tokens import Reuse
from engine.runner.prompt_cache import PromptCache
from engine.runner.sequence import Sequence
from engine.runner.shape import Shape
from engine.runner.streams import WORTH_KEEPING, Streams
from tests.engine.runner.fake_memory import CELL_SIZE, GRID, FakeMemory, FakeState, Kind

DIVIDED = [Shape(6, 20), Shape(4, 30), Shape(3, 40), Shape(2, 60), Shape(1, 120)]
POOL = Shape(6, 120, unified=True)
LIMIT = CELL_SIZE * 60
LONGEST = 18


def sequence(tokens: list[int], reuse: Reuse = Reuse.ANY) -> Sequence:
    """A request that is nothing but its tokens."""
    none = cast(Any, None)
    return Sequence(0, array("i", tokens), len(tokens), 999, 999, True, 0, none, none, {}, reuse=reuse)


class StreamMachine(RuleBasedStateMachine):
    """Sequences come, grow, move, wait, are cut, shifted and forgotten; cells are always what tokens say."""

    @initialize(
        kind=st.sampled_from(["plain", "plain", "sliding", "ring", "recurrent"]),
        can_shift=st.booleans(),
        shape=st.sampled_from([*DIVIDED, POOL]),
        limit=st.sampled_from([0, LIMIT, 10 * LIMIT]),
        random=st.randoms(use_true_random=False),
        refusals=st.sampled_from([0.0, 0.0, 0.2]),
    )
    def start(
        self,
        kind: Kind,
        can_shift: bool,
        shape: Shape,
        limit: int,
        random: Random,
        refusals: float,
    ) -> None:
        self.memory = FakeMemory(
            shape, kind, can_shift=can_shift, refuses=lambda: refusals > 0 and random.random() < refusals
        )
        self.limit = limit
        self.streams = Streams(self.memory, PromptCache(limit, can_cut=self.memory.can_cut_states), GRID)
        self.seen = [array("i", [0] * LONGEST)]  # tokens with which others may begin
        self.running: list[Sequence] = []
        self.suspended: list[Sequence] = []
        self.shifted: set[Sequence] = set()
        self.cut: set[Sequence] = set()

    def pick(self, data: st.DataObject) -> Sequence:
        return self.running[data.draw(st.integers(0, len(self.running) - 1))]

    def has_room(self) -> bool:
        return len(self.running) < self.memory.shape.streams

    @precondition(has_room)
    @rule(
        data=st.data(),
        cut=st.sampled_from([0, 1, 4, 9]),
        end=st.lists(st.integers(0, 1), min_size=1, max_size=2),
        reuse=st.sampled_from([Reuse.STEADY, Reuse.ANY, Reuse.CHAT, Reuse.STEADY, Reuse.NONE]),
        n_batch=st.sampled_from([0, 0, 3]),
    )
    def admit(self, data: st.DataObject, cut: int, end: list[int], reuse: Reuse, n_batch: int) -> None:
        base = self.seen[data.draw(st.integers(0, len(self.seen) - 1))][:LONGEST]
        tokens = base[: max(len(base) - cut, 0)].tolist() + end
        seq = sequence(tokens, reuse)
        self.seen = [*self.seen[-4:], seq.tokens]
        seq.n_batch = n_batch
        known, least = self.streams.known_prefix(seq.tokens), self.least_reused(seq)
        refused = self.memory.refused
        seq.cells = self.streams.acquire(seq.tokens, seq.n_prompt, reuse)
        assert least <= seq.n_cached <= known < len(tokens) or (self.memory.refused > refused and not seq.n_cached)
        assert seq.slot not in [other.slot for other in self.running]
        if reuse is Reuse.NONE:
            assert not seq.n_cached
        if reuse is Reuse.STEADY:
            assert seq.n_cached % GRID == 0
            assert all(cell.steady for cell in self.memory.held[seq.slot].values())
        self.running.append(seq)

    def least_reused(self, seq: Sequence) -> int:
        """What a new sequence can begin with of those that run or were saved; finished ones may have more."""
        states = [(entry.known, len(entry.tokens), len(entry.tokens)) for entry in self.streams.prompt_cache]
        states += [(s.cells.known, s.cells.reusable, s.n_cached) for s in self.running if s.cells is not None]
        lengths = [(known.usable(seq.tokens, seq.reuse, GRID, clean), held) for known, clean, held in states]
        can_cut = self.memory.can_cut_states
        return max((length for length, held in lengths if can_cut or length == held), default=0)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), passes=st.sampled_from([6, 4, 2, 1]), everyone=st.booleans())
    def compute(self, data: st.DataObject, passes: int, everyone: bool) -> None:
        for seq in self.running if everyone else [self.pick(data)]:
            for _ in range(passes):
                self.run_pass(seq, data)

    def run_pass(self, seq: Sequence, data: st.DataObject) -> None:
        """What the loop does with a row, or with a chunk of a prompt."""
        start, decoding = seq.n_cached, seq.decoding
        count = data.draw(st.integers(1, LONGEST)) if seq.n_pending > 1 else 1
        size = min(count, seq.n_pending)
        if seq.steady and not decoding:
            size = min(seq.n_batch or GRID, seq.n_pending, GRID - start % GRID)
        if size > self.memory.room(seq.slot):
            return
        assert seq.cells is not None
        refused = self.memory.refused
        if not self.streams.make_room(seq.cells, size):
            assert self.memory.refused > refused
            assert not seq.n_cached
            return
        self.memory.compute(seq.slot, seq.tokens[start : start + size], start)
        seq.advance(size)
        if seq.steady and not decoding and seq.n_cached % GRID == 0:
            seq.mark_on_grid(start)
        if not seq.n_pending:
            seq.accept(data.draw(st.integers(0, 1)))
            if seq.reuse is Reuse.STEADY and not seq.n_batch and seq.n_generated == 1 and seq not in self.cut:
                assert seq.cells is not None
                assert seq.cells.known.on_grid == seq.n_cached // GRID * GRID

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 5))
    def abort(self, data: st.DataObject, count: int) -> None:
        seq = self.pick(data)
        before = seq.n_cached
        count = min(count, seq.n_pending, self.memory.room(seq.slot))
        self.memory.compute(seq.slot, seq.tokens[before : before + count], before)
        kept = self.memory.can_cut and self.memory.keeps_window(seq.slot, before)
        assert seq.cells is not None
        self.streams.rollback(seq.cells, before)
        assert seq.n_cached == (before if kept else 0)

    @precondition(lambda self: any(seq.n_cached > 1 for seq in self.running))
    @rule(data=st.data())
    def shift(self, data: st.DataObject) -> None:
        long = [seq for seq in self.running if seq.n_cached > 1]
        seq = long[data.draw(st.integers(0, len(long) - 1))]
        keep = data.draw(st.integers(0, seq.n_cached - 2))
        count = (seq.n_cached - keep) // 2
        assert seq.cells is not None
        if self.streams.shift_out(seq.cells, keep, count, steady=seq.steady):
            self.shifted.add(seq)
        else:
            self.streams.rollback(seq.cells, keep)
        self.cut.add(seq)
        del seq.tokens[keep : keep + count]

    @precondition(lambda self: self.running and not self.memory.can_cut_states)
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        seq = self.pick(data)
        if seq.cells is not None and seq.n_cached:
            self.streams.checkpoint(seq.cells)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), remember=st.sampled_from([True, True, False]))
    def release(self, data: st.DataObject, remember: bool) -> None:
        seq = self.pick(data)
        self.running.remove(seq)
        assert seq.cells is not None
        self.streams.release(seq.cells, remember=remember)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def suspend(self, data: st.DataObject) -> None:
        seq = self.pick(data)
        self.running.remove(seq)
        self.suspended.append(seq)
        assert seq.cells is not None
        seq.saved = self.streams.suspend(seq.cells)

    @precondition(lambda self: self.suspended and self.has_room())
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        seq = self.suspended[data.draw(st.integers(0, len(self.suspended) - 1))]
        before, refused, saved = seq.n_cached, self.memory.refused, seq.saved
        self.suspended.remove(seq)
        assert seq.cells is not None
        seq.cells, seq.saved = self.streams.resume(seq.cells, seq.saved), None
        assert seq.n_cached == (0 if saved is None or self.memory.refused > refused else before)
        assert seq.slot not in [other.slot for other in self.running]
        self.running.append(seq)

    @precondition(lambda self: len(self.running) > 1)
    @rule()
    def close_gaps(self) -> None:
        decoding = [seq for seq in self.running if seq.decoding]
        before = [self.memory.held[seq.slot] for seq in self.running]
        refused = self.memory.refused
        self.streams.close_gaps([seq.cells for seq in decoding if seq.cells is not None])
        slots = sorted(seq.slot for seq in decoding)
        if slots and not self.memory.shape.unified:
            assert slots == list(range(slots[0], slots[0] + len(slots)))
        for seq, cells in zip(self.running, before, strict=True):
            lost = self.memory.refused > refused and not seq.n_cached
            assert lost or self.memory.held[seq.slot] == cells

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def reshape(self, data: st.DataObject) -> None:
        longest = max((len(seq.tokens) for seq in self.running), default=0)
        shapes = [s for s in (*DIVIDED, POOL) if s.streams >= len(self.running) and s.cells >= longest]
        if not shapes:
            return
        shape, before = data.draw(st.sampled_from(shapes)), self.memory.shape
        states = [self.memory.held[seq.slot] for seq in self.running]
        refused = self.memory.refused
        self.streams.reshape(shape)
        assert self.streams.shape == shape or (self.memory.refused > refused and self.streams.shape == before)
        for seq, cells in zip(self.running, states, strict=True):
            lost = self.memory.refused > refused and not seq.n_cached
            assert lost or self.memory.held[seq.slot] == cells

    @precondition(lambda self: self.streams.idle_tokens > 3 * LONGEST)
    @rule()
    def forget(self) -> None:
        self.streams.forget()
        assert self.streams.idle_tokens == self.streams.prompt_cache.size == 0

    @invariant()
    def cells_are_what_the_tokens_say(self) -> None:
        for seq in getattr(self, "running", []):
            assert self.memory.tokens(seq.slot) == seq.tokens[: seq.n_cached].tolist()
            assert seq.cells.known.tokens is seq.tokens
            own = seq.n_cached if seq not in self.shifted else seq.cells.reusable
            for pos in range(own):
                assert self.memory.held[seq.slot][pos].past == tuple(seq.tokens[:pos])

    @invariant()
    def what_counts_as_on_the_grid_was_computed_there(self) -> None:
        if not hasattr(self, "streams"):
            return
        known = [(seq.cells.known, self.memory.held[seq.slot]) for seq in self.running]
        known += [(entry.known, cast(FakeState, entry.state).cells) for entry in self.streams.prompt_cache]
        for tokens, cells in known:
            assert all(cells[pos].steady for pos in range(tokens.on_grid // GRID * GRID))

    @invariant()
    def saved_states_are_what_their_tokens_say(self) -> None:
        if not hasattr(self, "streams"):
            return
        for entry in self.streams.prompt_cache:
            cells = cast(FakeState, entry.state).cells
            assert [cells[pos].token for pos in range(len(cells))] == entry.tokens.tolist()
            assert all(cells[pos].past == tuple(entry.tokens[:pos]) for pos in cells)
        assert self.streams.prompt_cache.size <= self.limit

    @invariant()
    def no_cell_belongs_to_nobody(self) -> None:
        if not hasattr(self, "streams"):
            return
        assert self.streams.busy == len(self.running) <= self.memory.shape.streams
        in_streams = self.streams.idle_tokens - self.streams.prompt_cache.tokens
        assert self.memory.used == sum(seq.n_cached for seq in self.running) + in_streams
        if self.memory.shape.unified:
            assert in_streams == 0

    def teardown(self) -> None:
        if not hasattr(self, "streams"):
            return
        for seq in self.running:
            assert seq.cells is not None
            self.streams.release(seq.cells)
        self.streams.reshape(self.memory.shape)
        assert self.memory.used == self.streams.busy == 0
        self.streams.forget()
        assert self.streams.idle_tokens == 0


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)


class Bench:
    """Streams on a fake memory, and requests that are computed at once."""

    def __init__(
        self, shape: Shape = DIVIDED[0], kind: Kind = "plain", *, limit: int = 100 * LIMIT, can_shift: bool = True
    ) -> None:
        self.memory = FakeMemory(shape, kind, can_shift=can_shift)
        self.streams = Streams(self.memory, PromptCache(limit, can_cut=self.memory.can_cut_states), GRID)

    def admit(self, tokens: list[int], reuse: Reuse = Reuse.ANY) -> Sequence:
        """A sequence with the cells that can be had."""
        seq = sequence(tokens, reuse)
        seq.cells = self.streams.acquire(seq.tokens, seq.n_prompt, reuse)
        seq.n_reused = seq.n_cached
        return seq

    def compute(self, seq: Sequence) -> Sequence:
        """The rest of a sequence, on the grid if it is steady."""
        while seq.n_pending:
            start = seq.n_cached
            size = min(GRID - start % GRID, seq.n_pending) if seq.steady else seq.n_pending
            self.memory.compute(seq.slot, seq.tokens[start : start + size], start)
            seq.advance(size)
            if seq.steady and seq.n_cached % GRID == 0:
                seq.mark_on_grid(start)
        return seq

    def run(self, tokens: list[int], reuse: Reuse = Reuse.ANY) -> Sequence:
        """A sequence that is admitted and computed; `n_reused` is what it had at once."""
        return self.compute(self.admit(tokens, reuse))

    def finish(self, *seqs: Sequence) -> None:
        for seq in seqs:
            assert seq.cells is not None
            self.streams.release(seq.cells)

    def close_gaps(self, *seqs: Sequence) -> list[int]:
        """The slots that these have in the end."""
        self.streams.close_gaps([seq.cells for seq in seqs if seq.cells is not None])
        return [seq.slot for seq in seqs]

    def shift(self, seq: Sequence, keep: int, count: int) -> bool:
        assert seq.cells is not None
        done = self.streams.shift_out(seq.cells, keep, count)
        del seq.tokens[keep : keep + count]
        return done


def test_the_longest_known_beginning_is_reused_from_running_and_finished_sequences() -> None:
    bench = Bench()
    bench.finish(bench.run([1, 2, 3, 4, 5, 6]))
    running = bench.run([1, 2, 3, 9])
    assert running.n_reused == 3
    assert bench.run([1, 2, 3, 9, 8]).n_reused == 4
    assert bench.run([1, 2, 3, 9, 7]).n_reused == 4
    assert bench.run([1, 2, 3, 4, 5]).n_reused == 3  # the first one's stream was taken over with what it had in common


def test_one_token_is_always_left_to_compute() -> None:
    bench = Bench()
    bench.finish(bench.run([1, 2, 3]))
    assert bench.run([1, 2, 3]).n_reused == 2


def test_a_finished_sequence_that_goes_on_keeps_its_stream_without_a_copy() -> None:
    bench = Bench()
    first = bench.run([1, 2, 3, 4])
    bench.finish(first)
    second = bench.run([1, 2, 3, 4, 5])
    assert (second.slot, second.n_reused) == (first.slot, 4)
    assert bench.memory.restored == 0
    assert not list(bench.streams.prompt_cache)


def test_a_short_rest_is_given_up_and_a_long_one_kept() -> None:
    bench = Bench(Shape(2, 400))
    for rest, kept in [(WORTH_KEEPING, 0), (WORTH_KEEPING + 1, 1)]:
        bench.streams.forget()
        bench.finish(bench.run([1, 2, 3] + [4] * rest))
        bench.finish(second := bench.run([1, 2, 3, 9]))
        assert second.n_reused == 3
        assert bench.admit([1, 2, 3] + [4] * rest).n_cached == (2 + rest if kept else 3)


def test_a_finished_sequence_moves_to_memory_when_its_stream_is_needed() -> None:
    bench = Bench(Shape(2, 60))
    bench.finish(bench.run([1, 2, 3]), bench.run([4, 5, 6]))
    assert bench.streams.prompt_cache.tokens == 0
    bench.run([7, 7])
    assert [entry.tokens.tolist() for entry in bench.streams.prompt_cache] == [[1, 2, 3]]
    assert bench.run([1, 2, 3, 4]).n_reused == 3
    assert bench.streams.idle_tokens == 6


def test_in_a_pool_a_finished_sequence_leaves_at_once() -> None:
    bench = Bench(POOL)
    bench.finish(bench.run([1, 2, 3]))
    assert bench.memory.used == 0
    assert bench.streams.idle_tokens == 3
    assert bench.run([1, 2, 3, 4]).n_reused == 3


def test_without_memory_for_states_only_streams_are_reused() -> None:
    bench = Bench(Shape(2, 60), limit=0)
    bench.finish(bench.run([1, 2, 3]), bench.run([4, 5, 6]))
    assert bench.run([7]).n_reused == 0
    assert bench.run([1, 2, 3, 4]).n_reused == 0
    pool = Bench(POOL, limit=0)
    pool.finish(pool.run([1, 2, 3]))
    assert pool.streams.idle_tokens == 0


def test_the_least_recently_used_stream_is_given_away() -> None:
    bench = Bench(Shape(3, 40))
    for tokens in ([1, 1, 1], [2, 2, 2], [3, 3, 3], [1, 1, 1, 1]):
        bench.finish(bench.run(tokens))
    bench.run([4, 4])
    assert [entry.tokens.tolist() for entry in bench.streams.prompt_cache] == [[2, 2, 2]]


def test_new_sequences_take_streams_beside_those_that_run() -> None:
    bench = Bench()
    seqs = [bench.run([n, n]) for n in range(4)]
    assert [seq.slot for seq in seqs] == [0, 1, 2, 3]
    bench.finish(seqs[0], seqs[1])
    assert bench.run([8]).slot == 4  # empty, and beside the others
    assert bench.run([9]).slot in (1, 5)


def test_gaps_are_closed_by_moving_the_smallest() -> None:
    bench = Bench()
    seqs = [bench.run([n] * length) for n, length in enumerate([9, 1, 9, 9, 1, 2])]
    bench.finish(seqs[1], seqs[4])
    assert bench.close_gaps(seqs[0], seqs[2], seqs[3], seqs[5]) == [0, 2, 3, 1]
    assert bench.memory.tokens(1) == [5, 5]


def test_what_is_in_the_way_moves_out_or_changes_places() -> None:
    bench = Bench(Shape(3, 40))
    first, prompt, last = (bench.run([n] * length) for n, length in enumerate([9, 5, 2]))
    assert bench.close_gaps(first, last) == [0, 1]
    assert prompt.slot == 2
    assert bench.memory.tokens(2) == [1] * 5
    bench.finish(last)
    assert bench.close_gaps(first, prompt) == [0, 1]
    assert [entry.tokens.tolist() for entry in bench.streams.prompt_cache] == [[2, 2]]


def test_neighbours_and_those_in_a_pool_stay() -> None:
    bench = Bench()
    seqs = [bench.run([n] * 3) for n in range(3)]
    assert bench.close_gaps(seqs[2], seqs[1], seqs[0]) == [2, 1, 0]
    pool = Bench(POOL)
    seqs = [pool.run([n] * 3) for n in range(3)]
    assert pool.close_gaps(seqs[0], seqs[2]) == [0, 2]
    assert bench.memory.restored == pool.memory.restored == 0


def test_in_a_new_shape_those_that_run_go_on_and_finished_ones_are_known() -> None:
    bench = Bench(Shape(4, 30))
    running, finished = bench.run([1, 2, 3]), bench.run([4, 5, 6])
    last = bench.run([7, 8])
    bench.finish(finished)
    for shape in (Shape(2, 60), POOL, Shape(3, 40)):
        bench.streams.reshape(shape)
        assert bench.streams.shape == shape
        assert [bench.memory.tokens(seq.slot) for seq in (running, last)] == [[1, 2, 3], [7, 8]]
    assert bench.run([4, 5, 6, 7]).n_reused == 3


def test_without_memory_for_a_new_shape_all_go_on_in_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Shape(4, 30))
    seqs = [bench.run([1, 2, 3]), bench.run([4, 5])]
    refusals = iter([False, False, True])
    bench.memory.refuses = lambda: next(refusals, False)
    with caplog.at_level(logging.INFO, "pronk.runner"):
        bench.streams.reshape(Shape(2, 60))
    assert bench.streams.shape == Shape(4, 30)
    assert [bench.memory.tokens(seq.slot) for seq in seqs] == [[1, 2, 3], [4, 5]]
    assert "KV cache cannot be reshaped: no memory" in caplog.messages


def test_a_suspended_sequence_comes_back_as_it_was() -> None:
    bench = Bench(Shape(2, 60))
    seq = bench.run([1, 2, 3, 4], Reuse.STEADY)
    assert seq.cells is not None
    saved = bench.streams.suspend(seq.cells)
    assert bench.memory.used == 0
    others = [bench.run([5, 6]), bench.run([7])]
    bench.finish(others[0])
    seq.cells = bench.streams.resume(seq.cells, saved)
    assert bench.memory.tokens(seq.slot) == [1, 2, 3, 4]
    assert (seq.n_cached, seq.cells.known.on_grid) == (4, 4)


def test_a_suspended_sequence_without_a_state_is_computed_again() -> None:
    bench = Bench()
    seq = bench.run([1, 2, 3, 4], Reuse.STEADY)
    assert seq.cells is not None
    bench.memory.refuses = lambda: True
    assert bench.streams.suspend(seq.cells) is None
    seq.cells = bench.streams.resume(seq.cells, None)
    assert (seq.n_cached, seq.cells.known.on_grid) == (0, 0)
    assert bench.memory.used == 0


def test_a_refused_state_costs_a_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Shape(1, 60))
    bench.finish(bench.run([1, 2, 3]))
    bench.finish(bench.run([4]))
    bench.memory.refuses = lambda: True
    with caplog.at_level(logging.INFO, "pronk.runner"):
        assert bench.admit([1, 2, 3, 4]).n_cached == 0
    assert caplog.messages == ["saved state refused: the prompt is computed"]


def test_a_recurrent_state_is_extended_or_dropped_as_a_whole() -> None:
    bench = Bench(kind="recurrent")
    bench.finish(bench.run([1, 2, 3]))
    assert bench.admit([1, 2, 9]).n_cached == 0
    seq = bench.run([1, 2, 3, 4])
    assert seq.n_reused == 3
    assert seq.cells is not None
    bench.streams.rollback(seq.cells, 2)
    assert (seq.n_cached, bench.memory.tokens(seq.slot)) == (0, [])


def test_a_checkpoint_serves_others_while_its_sequence_goes_on() -> None:
    bench = Bench(kind="recurrent")
    seq = bench.run([1, 2, 3])
    assert seq.cells is not None
    bench.streams.checkpoint(seq.cells)
    seq.tokens.extend([4, 5])
    bench.compute(seq)
    for reuse in (Reuse.ANY, Reuse.CHAT):
        assert bench.admit([1, 2, 3, 9], reuse).n_cached == 3
    assert bench.admit([1, 2, 3, 9], Reuse.STEADY).n_cached == 0
    assert bench.memory.tokens(seq.slot) == [1, 2, 3, 4, 5]


def test_no_checkpoint_is_made_of_what_was_shifted() -> None:
    bench = Bench(kind="sliding")
    seq = bench.run([1, 2, 3, 4, 5, 6])
    assert bench.shift(seq, 1, 2)
    assert seq.cells is not None
    bench.streams.checkpoint(seq.cells)
    assert not list(bench.streams.prompt_cache)


def test_what_was_shifted_is_not_reused() -> None:
    bench = Bench()
    seq = bench.run([1, 2, 3, 4, 5, 6])
    assert bench.shift(seq, 1, 2)
    assert bench.run([1, 4, 5, 6, 7]).n_reused == 1
    bench.finish(seq)
    assert bench.admit([1, 4, 5, 6, 8]).n_reused == 4  # the second one's, which computed them
    assert bench.admit([1, 2, 3, 4]).n_reused == 1


def test_what_is_computed_again_after_a_shift_is_reused_again() -> None:
    bench = Bench()
    seq = bench.run([1, 2, 3, 4, 5, 6])
    assert bench.shift(seq, 1, 2)
    assert seq.cells is not None
    bench.streams.rollback(seq.cells, 1)
    bench.compute(seq)
    assert bench.run([1, 4, 5, 6, 7]).n_reused == 4


def test_a_shift_that_memory_cannot_do_changes_nothing() -> None:
    bench = Bench(can_shift=False)
    seq = bench.run([1, 2, 3, 4])
    assert seq.cells is not None
    assert not bench.streams.shift_out(seq.cells, 1, 2)
    assert bench.memory.tokens(seq.slot) == [1, 2, 3, 4]


@pytest.mark.parametrize(("keep", "known"), [(GRID, GRID), (GRID + 1, GRID), (1, 0)])
def test_what_is_computed_behind_a_cut_within_a_chunk_is_not_on_the_grid(keep: int, known: int) -> None:
    bench = Bench(can_shift=False)
    seq = bench.run([1] * 3 * GRID, Reuse.STEADY)
    assert seq.cells is not None
    bench.streams.rollback(seq.cells, keep)
    del seq.tokens[keep : keep + 2]
    bench.compute(seq)
    assert bench.admit([*seq.tokens, 9], Reuse.STEADY).n_reused == (2 * GRID if keep == GRID else known)


def test_nobody_begins_with_what_another_owner_has() -> None:
    bench = Bench()
    prompt = [1, 2] * GRID

    def reused(owner: str, *end: int) -> int:
        seq = sequence([*prompt, *end], Reuse.ANY)
        seq.cells = bench.streams.acquire(seq.tokens, seq.n_prompt, Reuse.ANY, owner)
        n_reused = seq.n_cached
        bench.finish(bench.compute(seq))
        return n_reused

    assert reused("a", 3) == 0
    assert [reused("b", 4), reused("", 5)] == [0, 0]
    bench.streams.reshape(DIVIDED[1])  # all of them are saved states now
    assert [reused("a", 6), reused("b", 7), reused("", 8), reused("c", 9)] == [len(prompt)] * 3 + [0]


def test_known_tokens_count_though_their_cells_cannot_be_had() -> None:
    bench = Bench()
    bench.admit([1, 2, 3, 4])
    assert bench.streams.known_prefix(array("i", [1, 2, 3, 9])) == 3
    assert bench.admit([1, 2, 3, 9]).n_reused == 0
