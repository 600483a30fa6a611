"""Scoped variables: existence for the parser, values for the evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Cell(Generic[T]):
    name: str
    value: T


class Scope(Generic[T]):
    """A stack of variables on top of `$`, with look-up in constant time."""

    def __init__(self, root: T) -> None:
        self._stack: list[_Cell[T]] = []
        self._by_name: dict[str, list[_Cell[T]]] = {}
        self.declare("$", root)

    def declare(self, name: str, value: T) -> None:
        """Declare a variable; it hides an older one of the same name."""
        cell = _Cell(name, value)
        self._stack.append(cell)
        self._by_name.setdefault(name, []).append(cell)

    def find(self, name: str) -> _Cell[T] | None:
        """The newest variable of this name, or None; its `value` may be set."""
        cells = self._by_name.get(name)
        return cells[-1] if cells else None

    def newest(self, place: int) -> _Cell[T]:
        """The last declared variable (1), the one before (2), and so on."""
        return self._stack[-place]

    def mark(self) -> int:
        """The number of variables, for `drop`."""
        return len(self._stack)

    def drop(self, mark: int) -> None:
        """Drop the variables declared since `mark`."""
        for cell in self._stack[mark:]:
            self._by_name[cell.name].pop()
        del self._stack[mark:]
