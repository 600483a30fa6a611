"""How the cells of the KV cache are divided among the sequences that run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.messages import CONTEXT_PADDING, padded

GROWTH = 4  # a sequence that outgrows its stream gets room for this part of its length more


@dataclass(frozen=True, slots=True)
class Shape:
    """A KV cache of `streams` streams of `cells` tokens each. If `unified`, one pool of `cells` that all share."""

    streams: int
    cells: int
    unified: bool = False

    @property
    def total(self) -> int:
        """Cells of all streams."""
        return self.cells if self.unified else self.streams * self.cells


@dataclass(frozen=True, slots=True)
class Budget:
    """What shapes may be made of: `cells` tokens for `streams` sequences of at most `longest` tokens each."""

    cells: int
    streams: int
    longest: int

    def divided(self, streams: int) -> Shape:
        """The shape of so many streams, each as long as the cells allow."""
        cells = min(self.cells // streams, padded(self.longest)) // CONTEXT_PADDING * CONTEXT_PADDING
        return Shape(streams, max(cells, CONTEXT_PADDING))

    @property
    def pool(self) -> Shape:
        """The shape in which all sequences share the cells."""
        return Shape(self.streams, self.cells // CONTEXT_PADDING * CONTEXT_PADDING, unified=True)

    @property
    def widest(self) -> Shape:
        """The shape with all streams, or as many as the cells allow."""
        return self.divided(max(1, min(self.streams, self.cells // CONTEXT_PADDING)))


def room_for(length: int, longest: int) -> int:
    """Cells that a stream should have for a sequence of `length` tokens that goes on growing, up to `longest`."""
    return min(length + max(length // GROWTH, CONTEXT_PADDING), longest)


def choose_shape(needs: Sequence[int], budget: Budget, current: Shape, *, may_unify: bool = True) -> Shape:
    """The shape for as many of the first of some sequences as fit, at least one; `needs` are the cells of each.

    The current shape stays if it serves as many. Where one long sequence leaves too few streams for the others, all
    share one pool, unless not `may_unify`.
    """
    for count in range(len(needs), 0, -1):
        if shape := _shape_for(needs[:count], budget, current, may_unify=may_unify):
            return shape
    return budget.divided(1)


def _shape_for(needs: Sequence[int], budget: Budget, current: Shape, *, may_unify: bool) -> Shape | None:
    """A shape that holds sequences of these lengths at once: the current one if it does, else the widest that does."""
    if len(needs) > budget.streams:
        return None
    if not current.unified and fits(needs, current):
        return current
    streams = min(budget.streams, budget.cells // padded(max([*needs, 1])))
    if streams and fits(needs, shape := budget.divided(streams)):
        return shape
    return budget.pool if may_unify and fits(needs, budget.pool) else None


def fits(needs: Sequence[int], shape: Shape) -> bool:
    """Whether sequences of these lengths fit into a shape."""
    if len(needs) > shape.streams:
        return False
    return (sum(needs) if shape.unified else max(needs, default=0)) <= shape.cells
