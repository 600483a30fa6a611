"""A memory of streams that knows what every cell was computed from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from engine.runner.shape import Shape

Kind: TypeAlias = Literal["plain", "sliding", "ring", "recurrent"]
GRID = 4
WINDOW = 3  # tokens that a token sees in some layers, itself included
RING = 7  # cells of a stream in these layers, where their cache is small
CELL_SIZE = 10  # bytes of a state


@dataclass(frozen=True, slots=True)
class Cell:
    """One token at one position. `past` is all that came before it when it was computed.

    `steady`: it and all before it were computed in whole chunks between borders of the grid. `whole`: layers with a
    sliding window have it too.
    """

    token: int
    past: tuple[int, ...]
    steady: bool
    whole: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class FakeState:
    """Cells by position. `streams`: the only number of streams whose contexts take them, 0 for any."""

    cells: dict[int, Cell]
    streams: int

    @property
    def size(self) -> int:
        return 1 + CELL_SIZE * len(self.cells)

    def fits(self, streams: int) -> bool:
        return self.streams in (0, streams)


class FakeMemory:
    """What a context's memory does: `CacheMemory` with a `compute`.

    `refuses` says now and then that there is no memory for a state or a shape, or that a state is refused; `refused`
    counts these, and cuts that were refused.
    """

    def __init__(
        self,
        shape: Shape,
        kind: Kind = "plain",
        *,
        can_shift: bool = True,
        refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        self.shape = shape
        self.can_cut = kind != "recurrent"
        self.can_cut_states = kind == "plain"
        self.can_shift = can_shift and self.can_cut and kind != "ring"
        self.packs = kind == "ring"
        self.window = WINDOW if kind in ("sliding", "ring") else 0
        self.ring = RING if kind == "ring" else 0
        self.refuses = refuses
        self.refused = 0
        self.restored = 0
        self.held: defaultdict[int, dict[int, Cell]] = defaultdict(dict)

    @property
    def used(self) -> int:
        """Cells that hold something."""
        return sum(map(len, self.held.values()))

    def room(self, seq: int) -> int:
        """Tokens that can still be computed for a sequence."""
        return self.shape.cells - (self.used if self.shape.unified else len(self.held[seq]))

    def tokens(self, seq: int) -> list[int]:
        """What a sequence holds; its positions must be without gap."""
        cells = self.held[seq]
        assert sorted(cells) == list(range(len(cells))), "a position is missing"
        return [cells[pos].token for pos in range(len(cells))]

    def compute(self, seq: int, tokens: Sequence[int], start: int) -> None:
        """A forward pass over a chunk of one sequence, the first token at position `start`."""
        assert 0 <= seq < self.shape.streams
        assert len(tokens) <= self.room(seq), "the cache is full"
        past = self.tokens(seq)
        assert len(past) == start, "a position is missing or there twice"
        assert self._sees_window(self.held[seq]), "a restored state has no more than its last window"
        whole = start % GRID == 0 and len(tokens) == GRID
        steady = whole and all(cell.steady for cell in self.held[seq].values())
        for i, token in enumerate(tokens):
            self.held[seq][start + i] = Cell(token, (*past, *tokens[:i]), steady)
        if self.ring:
            self._keep_whole(seq, start + len(tokens) - self.ring)

    def remove(self, seq: int, start: int, end: int = -1) -> bool:
        assert 0 <= seq < self.shape.streams
        cells = self.held[seq]
        left = {pos: cell for pos, cell in cells.items() if pos < start or 0 <= end <= pos}
        partial = left and len(left) < len(cells)
        if partial and (not self.can_cut or not self._sees_window(left)):
            self.refused += 1
            return False
        self.held[seq] = left
        return True

    def keeps_window(self, seq: int, start: int, end: int = -1) -> bool:
        assert 0 <= seq < self.shape.streams
        cells = self.held[seq]
        return self._sees_window({pos: cell for pos, cell in cells.items() if pos < start or 0 <= end <= pos})

    def make_room(self, seq: int, count: int) -> bool:
        if len(self.held[seq]) + count <= self.ring or not self.ring:
            return True
        if self.refuses():
            self.refused += 1
            return False
        self._keep_whole(seq, len(self.held[seq]) - self.window)
        return True

    def _keep_whole(self, seq: int, first: int) -> None:
        """Layers with a window have no token before this one."""
        self.held[seq] = {pos: replace(cell, whole=cell.whole and pos >= first) for pos, cell in self.held[seq].items()}

    def shift(self, seq: int, start: int, end: int, by: int) -> None:
        assert self.can_shift
        self.held[seq] = {pos + by if start <= pos < end else pos: cell for pos, cell in self.held[seq].items()}

    def save(self, seq: int) -> FakeState | None:
        if self.refuses():
            self.refused += 1
            return None
        cells = self.held[seq]
        if self.window:
            seen = len(cells) - self.window
            cells = {pos: replace(cell, whole=cell.whole and pos >= seen) for pos, cell in cells.items()}
        return FakeState(dict(cells), 0 if self.can_cut_states else self._n_stream)

    def restore(self, seq: int, state: FakeState) -> bool:
        assert 0 <= seq < self.shape.streams
        assert not self.held[seq], "a state goes into an empty stream"
        if self.refuses() or state.streams not in (0, self._n_stream) or len(state.cells) > self.room(seq):
            self.refused += 1
            return False
        self.restored += 1
        self.held[seq] = dict(state.cells)
        return True

    def reshape(self, shape: Shape) -> bool:
        self.held.clear()
        if self.refuses():
            self.refused += 1
            return False
        self.shape = shape
        return True

    def _sees_window(self, cells: dict[int, Cell]) -> bool:
        """Whether the token behind these finds what it sees in layers with a window."""
        return not self.window or all(cells[pos].whole for pos in sorted(cells)[1 - self.window :])

    @property
    def _n_stream(self) -> int:
        return 1 if self.shape.unified else self.shape.streams
