"""What stands between `%` and the end of a verb, and what it does to a text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Directive:
    """Verb, flags, width and precision."""

    verb: str = "v"
    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    names: bool = False
    """`%+v`: structs with the names of their fields."""
    syntax: bool = False
    """`%#v`: as Go source."""

    def padded(self, text: str, *, zero: bool = True) -> str:
        """A text filled up to the width; zeros stand on the left only, and only if `zero` allows them."""
        width = self.width or 0
        if self.minus:
            return text.ljust(width)
        return text.rjust(width, "0" if zero and self.zero else " ")

    def cut(self, text: str) -> str:
        """As much of a text as the precision lets through."""
        return text if self.precision is None else text[: self.precision]

    def sign(self, *, negative: bool) -> str:
        """What stands before a number."""
        return "-" if negative else "+" if self.plus else " " if self.space else ""
