"""Limits of one execution. Steps are counted, not timed, so results are reproducible."""

from __future__ import annotations

from dataclasses import dataclass

from modelfile.gotemplate.errors import TemplateLimitError
from modelfile.gotemplate.strings import byte_length, joined

LONGEST_SOURCE = 1 << 18  # characters of a template
MOST_TOKENS = 1 << 15  # of a template
DEEPEST_SOURCE = 150  # levels of a template: a block is one
PARENTHESES = 3  # levels per parentheses, which take more of Python's stack than a block
_TEXT_PER_STEP = 64  # characters copied per step
_EACH_PER_STEP = 2  # characters processed one by one per step
_BUFFER = 3  # steps per buffer


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one execution.

    `steps` counts nodes, arguments, iterations and produced text; `text` bounds the bytes of the output and of any
    intermediate text; `depth` bounds the nesting of blocks, parentheses, templates and values, far below Python's
    recursion limit.
    """

    steps: int = 350_000
    text: int = 8 << 20
    depth: int = 180


DEFAULT_LIMITS = Limits()


class Budget:
    """What is left of the limits. For one execution, so one thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._steps = limits.steps
        self._depth = 0

    def spend(self, steps: int = 1) -> None:
        """Count steps. Raises TemplateLimitError if none are left."""
        self._steps -= steps
        if self._steps < 0:
            raise TemplateLimitError(f"template: exceeded the limit of {self.limits.steps} steps")

    def spend_on(self, size: int) -> None:
        """Count the steps for copying `size` characters or elements."""
        self.spend(1 + size // _TEXT_PER_STEP)

    def spend_on_each(self, size: int) -> None:
        """Count the steps for processing `size` characters or elements one by one."""
        self.spend(1 + size // _EACH_PER_STEP)

    def enter(self, levels: int = 1) -> None:
        """Enter nesting levels. Raises TemplateLimitError; the budget cannot be used after that."""
        self.spend(levels)
        self._depth += levels
        if self._depth > self.limits.depth:
            raise TemplateLimitError(f"template: exceeded maximum template depth ({self.limits.depth})")

    def leave(self, levels: int = 1) -> None:
        """Leave nesting levels."""
        self._depth -= levels


class Buffer:
    """A text buffer, checked against the limits before it grows."""

    def __init__(self, budget: Budget) -> None:
        budget.spend(_BUFFER)
        self.budget = budget
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Append. Raises TemplateLimitError if the text gets too long."""
        self.budget.spend_on(len(text))
        self._size += byte_length(text)
        if self._size > self.budget.limits.text:
            raise TemplateLimitError(f"template: exceeded the limit of {self.budget.limits.text} bytes")
        self._parts.append(text)

    def text(self) -> str:
        """The whole text."""
        return joined(self._parts)
