"""What one execution may use. Counted, not timed: the same template on the same values always ends the same way."""

from __future__ import annotations

from dataclasses import dataclass

from modelfile.gotemplate.errors import TemplateLimitError
from modelfile.gotemplate.strings import byte_length, joined

LONGEST_SOURCE = 1 << 18  # characters of a template
MOST_TOKENS = 1 << 15  # of a template
DEEPEST_SOURCE = 150  # levels of a template: a block is one
PARENTHESES = 3  # levels that parentheses are, for they take more of Python's stack than a block
_TEXT_PER_STEP = 64  # characters that cost as much as one step when they are copied
_EACH_PER_STEP = 2  # when each is looked at
_BUFFER = 3  # steps that it costs to make a text


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one execution.

    `steps` counts nodes, arguments, turns of loops, and text that is made; `text` is the most bytes of the output and
    of any text on the way; `depth` is the most levels of blocks, parentheses, templates and values inside one
    another, and keeps the interpreter away from the end of Python's own stack.
    """

    steps: int = 350_000
    text: int = 8 << 20
    depth: int = 180


DEFAULT_LIMITS = Limits()


class Budget:
    """What is left of the limits. Belongs to one execution, so to one thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._steps = limits.steps
        self._depth = 0

    def spend(self, steps: int = 1) -> None:
        """Count steps. Raises TemplateLimitError when there are none left."""
        self._steps -= steps
        if self._steps < 0:
            raise TemplateLimitError(f"template: exceeded the limit of {self.limits.steps} steps")

    def spend_on(self, size: int) -> None:
        """Count the steps that copying `size` characters or elements is worth."""
        self.spend(1 + size // _TEXT_PER_STEP)

    def spend_on_each(self, size: int) -> None:
        """Count the steps of work on `size` characters or elements one by one."""
        self.spend(1 + size // _EACH_PER_STEP)

    def enter(self, levels: int = 1) -> None:
        """Go deeper. Raises TemplateLimitError; after that nothing more can be done with this budget."""
        self.spend(levels)
        self._depth += levels
        if self._depth > self.limits.depth:
            raise TemplateLimitError(f"template: exceeded maximum template depth ({self.limits.depth})")

    def leave(self, levels: int = 1) -> None:
        """Come back from where `enter` went."""
        self._depth -= levels


class Buffer:
    """Text that is being made, checked against the limits before it grows."""

    def __init__(self, budget: Budget) -> None:
        budget.spend(_BUFFER)
        self.budget = budget
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Append. Raises TemplateLimitError if that would be too much text."""
        self.budget.spend_on(len(text))
        self._size += byte_length(text)
        if self._size > self.budget.limits.text:
            raise TemplateLimitError(f"template: exceeded the limit of {self.budget.limits.text} bytes")
        self._parts.append(text)

    def text(self) -> str:
        """All that was written."""
        return joined(self._parts)
