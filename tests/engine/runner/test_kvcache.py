"""The KV cache's book-keeping against a fake memory that knows what every cell was computed from."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.runner.kvcache import CHUNK, KVCache, common_prefix

N_SLOTS = 6
MOST_RUNNING = 4
IDLE_LIMIT = 60


@dataclass(eq=False)
class Cell:
    """One token at one position, for one or more sequences. `past` is all that came before it when it was computed."""

    token: int
    pos: int
    past: tuple[int, ...]
    seqs: set[int] = field(default_factory=set)


class FakeMemory:
    """What llama.cpp's unified cache does, one cell object per cell. `can_cut` False: like a recurrent state."""

    def __init__(self, *, can_cut: bool = True, can_shift: bool = True) -> None:
        self.can_cut = can_cut
        self.can_shift = can_shift
        self.cells: list[Cell] = []

    def compute(self, seq: int, tokens: list[int], start: int) -> None:
        """A forward pass over tokens of one sequence, the first at position `start`."""
        past = tuple(cell.token for cell in self.of(seq))
        assert len(past) == start, "a position is missing or there twice"
        for i, token in enumerate(tokens):
            self.cells.append(Cell(token, start + i, past + tuple(tokens[:i]), {seq}))

    def of(self, seq: int) -> list[Cell]:
        return sorted((cell for cell in self.cells if seq in cell.seqs), key=lambda cell: cell.pos)

    def remove(self, seq: int, start: int, end: int = -1) -> bool:
        mine = [cell for cell in self.of(seq) if cell.pos >= start and (end < 0 or cell.pos < end)]
        if not self.can_cut and len(mine) < len(self.of(seq)):
            return False
        for cell in mine:
            cell.seqs.discard(seq)
        self.cells = [cell for cell in self.cells if cell.seqs]
        return True

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        assert self.can_cut, "a recurrent state cannot be shared"
        assert not self.of(target)
        for cell in self.of(source):
            if cell.pos < length:
                cell.seqs.add(target)

    def shift(self, seq: int, start: int, end: int, by: int) -> None:
        for cell in self.of(seq):
            if start <= cell.pos < end:
                cell.pos += by


@dataclass
class Running:
    slot: int
    tokens: array[int]
    n_cached: int
    shifted: bool = False


class Cache(RuleBasedStateMachine):
    """Sequences come, grow, are cut, shifted and forgotten; their cells are always what their tokens say."""

    memory = FakeMemory()

    @initialize(can_cut=st.sampled_from([True, True, False]), can_shift=st.booleans())
    def start(self, can_cut: bool, can_shift: bool) -> None:
        self.memory = FakeMemory(can_cut=can_cut, can_shift=can_cut and can_shift)
        self.cache = KVCache(self.memory, N_SLOTS, IDLE_LIMIT)
        self.running: list[Running] = []

    def pick(self, data: st.DataObject) -> Running:
        return self.running[data.draw(st.integers(0, len(self.running) - 1))]

    @precondition(lambda self: len(self.running) < MOST_RUNNING)
    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=30))
    def admit(self, tokens: list[int]) -> None:
        prompt = array("i", tokens)
        before = self.cache.shared_with_busy(prompt)
        slot, n_cached = self.cache.acquire(prompt)
        assert min(before, len(prompt) - 1) <= n_cached < len(prompt)
        assert slot not in [other.slot for other in self.running]
        self.running.append(Running(slot, prompt, n_cached))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 20))
    def compute(self, data: st.DataObject, count: int) -> None:
        seq = self.pick(data)
        new = list(seq.tokens[seq.n_cached : seq.n_cached + count])
        self.memory.compute(seq.slot, new, seq.n_cached)
        seq.n_cached += len(new)
        self.cache.set_cached(seq.slot, seq.n_cached)
        if seq.n_cached == len(seq.tokens):
            seq.tokens.append(data.draw(st.integers(0, 1)))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        seq = self.pick(data)
        self.memory.compute(seq.slot, list(seq.tokens[seq.n_cached : seq.n_cached + 3]), seq.n_cached)
        left = self.cache.rollback(seq.slot, seq.n_cached)
        assert left == (seq.n_cached if self.memory.can_cut else 0)
        seq.n_cached = left

    @precondition(lambda self: self.running)
    @rule(data=st.data(), keep=st.integers(0, 5))
    def shift(self, data: st.DataObject, keep: int) -> None:
        seq = self.pick(data)
        count = (seq.n_cached - keep) // 2
        if count < 1:
            return
        if self.cache.shift_out(seq.slot, keep, count):
            seq.n_cached -= count
            seq.shifted = True
        else:
            seq.n_cached = self.cache.rollback(seq.slot, keep)
        del seq.tokens[keep : keep + count]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), remember=st.booleans())
    def finish(self, data: st.DataObject, remember: bool) -> None:
        seq = self.pick(data)
        self.running.remove(seq)
        self.cache.release(seq.slot, remember=remember)

    @rule()
    def evict(self) -> None:
        before = len(self.memory.cells)
        if self.cache.evict():
            assert len(self.memory.cells) <= before

    @invariant()
    def cells_are_what_the_tokens_say(self) -> None:
        for seq in getattr(self, "running", []):
            cells = self.memory.of(seq.slot)
            assert [cell.pos for cell in cells] == list(range(seq.n_cached))
            assert [cell.token for cell in cells] == list(seq.tokens[: seq.n_cached])

    @invariant()
    def only_a_shifted_sequence_knows_more_than_its_own_past(self) -> None:
        for seq in getattr(self, "running", []):
            if not seq.shifted:
                for cell in self.memory.of(seq.slot):
                    assert cell.past == tuple(seq.tokens[: cell.pos])

    @invariant()
    def no_cell_belongs_to_nobody(self) -> None:
        known = {seq.slot for seq in getattr(self, "running", [])}
        idle = {s for cell in self.memory.cells for s in cell.seqs} - known
        assert len(idle) + len(known) <= N_SLOTS

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for seq in self.running:
            self.cache.release(seq.slot)
        while self.cache.evict():
            pass
        assert self.memory.cells == []
        assert self.cache.busy == self.cache.idle_tokens == 0


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=80, stateful_step_count=40, suppress_health_check=list(HealthCheck))


def computed(cache: KVCache, memory: FakeMemory, tokens: list[int]) -> tuple[int, int]:
    """A sequence that is admitted and computed; returns its id and how much it had at once."""
    prompt = array("i", tokens)
    slot, had = cache.acquire(prompt)
    memory.compute(slot, tokens[had:], had)
    cache.set_cached(slot, len(tokens))
    return slot, had


def make(**abilities: bool) -> tuple[KVCache, FakeMemory]:
    memory = FakeMemory(**abilities)
    return KVCache(memory, N_SLOTS, IDLE_LIMIT), memory


def test_the_longest_known_beginning_is_reused_from_running_and_finished_sequences() -> None:
    cache, memory = make()
    finished, _ = computed(cache, memory, [1, 2, 3, 4, 5, 6])
    cache.release(finished)
    computed(cache, memory, [1, 2, 3, 9])
    assert len(memory.cells) == 7
    assert computed(cache, memory, [1, 2, 3, 9, 8])[1] == 4
    assert computed(cache, memory, [1, 2, 3, 4, 5, 7])[1] == 5


def test_one_token_is_always_left_to_compute() -> None:
    cache, memory = make()
    slot, _ = computed(cache, memory, [1, 2, 3])
    cache.release(slot)
    assert computed(cache, memory, [1, 2, 3])[1] == 2


def test_the_least_recently_used_goes_first() -> None:
    cache, memory = make()
    for tokens in ([1, 1, 1], [2, 2, 2], [1, 1, 1, 1]):
        cache.release(computed(cache, memory, tokens)[0])
    cache.evict()
    assert computed(cache, memory, [2, 2, 2, 2])[1] == 0
    assert computed(cache, memory, [1, 1, 1, 1, 1])[1] == 4


def test_no_more_is_remembered_than_the_limit_besides_the_longest() -> None:
    cache, memory = make()
    for first in range(8):
        cache.release(computed(cache, memory, [first] * 25)[0])
    assert cache.idle_tokens == len(memory.cells) == 75


def test_small_requests_do_not_drop_a_long_conversation() -> None:
    cache, memory = make()
    conversation = [1] * (2 * IDLE_LIMIT)
    cache.release(computed(cache, memory, conversation)[0])
    for first in range(2, 10):
        cache.release(computed(cache, memory, [first] * 20)[0])  # a title
        slot, had = computed(cache, memory, [*conversation, first])  # a branch, of which the next one knows nothing
        assert had == len(conversation)
        cache.release(slot)


def test_a_conversation_that_nobody_continues_goes_in_the_end() -> None:
    cache, memory = make()
    cache.release(computed(cache, memory, [0, *[1] * (2 * IDLE_LIMIT)])[0])
    for first in range(2, 6):
        cache.release(computed(cache, memory, [0, *[first] * 20])[0])  # they share only their first token with it
    assert cache.acquire(array("i", [0, 1, 1]))[1] == 1


def test_a_recurrent_state_is_extended_or_dropped_as_a_whole() -> None:
    cache, memory = make(can_cut=False, can_shift=False)
    cache.release(computed(cache, memory, [1, 2, 3])[0])
    assert computed(cache, memory, [1, 2, 9])[1] == 0
    slot, had = computed(cache, memory, [1, 2, 3, 4])
    assert had == 3
    assert cache.rollback(slot, 2) == 0


def test_cells_that_a_running_sequence_shares_are_not_moved() -> None:
    cache, memory = make()
    first, _ = computed(cache, memory, [1, 2, 3, 4, 5, 6])
    second, _ = computed(cache, memory, [1, 2, 3, 4, 5, 7])
    assert not cache.shift_out(first, 2, 2)
    cache.release(second)
    assert cache.shift_out(first, 2, 2)
    assert [cell.pos for cell in memory.of(first)] == [0, 1, 2, 3]


def test_what_was_shifted_is_not_reused() -> None:
    cache, memory = make()
    prompt = array("i", [1, 2, 3, 4, 5, 6])
    slot, _ = cache.acquire(prompt)
    memory.compute(slot, prompt.tolist(), 0)
    cache.set_cached(slot, 6)
    assert cache.shift_out(slot, 1, 2)
    del prompt[1:3]
    assert computed(cache, memory, [1, 4, 5, 6, 7])[1] == 1
    cache.release(slot)
    assert computed(cache, memory, [1, 4, 5, 6, 8])[1] == 4


def test_a_finished_sequence_is_forgotten_when_cells_that_it_shares_move() -> None:
    cache, memory = make()
    cache.release(computed(cache, memory, [1, 2, 3, 4, 5, 6, 7])[0])
    prompt = array("i", [1, 2, 3, 4, 5, 6, 9])
    slot, had = cache.acquire(prompt)
    assert had == 6
    assert cache.shift_out(slot, 2, 2)
    del prompt[2:4]
    assert computed(cache, memory, [1, 2, 3, 4, 5, 6, 8])[1] == 2


def test_what_is_computed_again_after_a_shift_is_reused_again() -> None:
    cache, memory = make()
    prompt = array("i", [1, 2, 3, 4, 5, 6])
    slot, _ = cache.acquire(prompt)
    memory.compute(slot, prompt.tolist(), 0)
    cache.set_cached(slot, 6)
    assert cache.shift_out(slot, 1, 2)
    del prompt[1:3]
    assert cache.rollback(slot, 1) == 1
    memory.compute(slot, [4, 5, 6], 1)
    cache.set_cached(slot, 4)
    assert computed(cache, memory, [1, 4, 5, 6, 7])[1] == 4


@given(st.integers(0, 3 * CHUNK), st.integers(0, 300), st.integers(0, 300), st.integers(0, 4 * CHUNK))
def test_a_common_prefix_is_as_long_as_the_tokens_are_equal(same: int, left: int, right: int, limit: int) -> None:
    a = array("i", [7] * same + [1] * left)
    b = array("i", [7] * same + [2] * right)
    assert common_prefix(a, b, limit) == min(same, limit)


def test_arrays_can_grow_after_they_were_compared() -> None:
    a, b = array("i", [1, 2]), array("i", [1, 3])
    common_prefix(a, b, 2)
    a.append(4)
    assert common_prefix(a, a, 9) == 3
