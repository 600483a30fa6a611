"""Go's `print`, `println` and `printf`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelfile.gotemplate.fmt_print import write
from modelfile.gotemplate.fmt_scalars import Directive
from modelfile.gotemplate.limits import Buffer
from modelfile.gotemplate.values import INT, STRING, UINT8, Value

_LARGEST = 1_000_000  # width or precision
_STEPS = 8  # per directive
_FLAGS = re.compile(r"[#0+\- ]*")
_DIGITS = re.compile(r"[0-9]*")


def print_values(values: Sequence[Value], buffer: Buffer) -> None:
    """`print`: spaces only between two values that are no strings."""
    after_string = True
    for value in values:
        is_string = value.held().type is STRING
        if not is_string and not after_string:
            buffer.write(" ")
        write(value, Directive(), buffer)
        after_string = is_string


def print_line(values: Sequence[Value], buffer: Buffer) -> None:
    """`println`: spaces between values, and a line break."""
    for place, value in enumerate(values):
        if place:
            buffer.write(" ")
        write(value, Directive(), buffer)
    buffer.write("\n")


def print_format(layout: str, values: Sequence[Value], buffer: Buffer) -> None:
    """`printf`. Mistakes in the layout or the values are written into the text, as Go does."""
    _Printf(layout, values, buffer).run()


@dataclass(slots=True)
class _Printf:
    layout: str
    values: Sequence[Value]
    buffer: Buffer
    at: int = 0
    argument: int = 0
    reordered: bool = False
    good_index: bool = True

    def run(self) -> None:
        while (percent := self.layout.find("%", self.at)) >= 0:
            self.buffer.write(self.layout[self.at : percent])
            self.at = percent + 1
            self._directive()
        self.buffer.write(self.layout[self.at :])
        if not self.reordered and self.argument < len(self.values):
            self._extra()

    def _directive(self) -> None:
        self.buffer.budget.spend(_STEPS)
        self.good_index = True
        flags = _FLAGS.match(self.layout, self.at)
        assert flags is not None  # it may be empty
        self.at = flags.end()
        directive = Directive(
            plus="+" in flags[0],
            minus="-" in flags[0],
            sharp="#" in flags[0],
            space=" " in flags[0],
            zero="0" in flags[0],
        )
        after_index = self._index()
        after_index = self._width(directive, after_index)
        after_index = self._precision(directive, after_index)
        if not after_index:
            self._index()
        if self.at >= len(self.layout):
            self.buffer.write("%!(NOVERB)")
            return
        directive.verb = self.layout[self.at]
        self.at += 1
        self._verb(directive)

    def _verb(self, directive: Directive) -> None:
        if directive.verb == "%":
            self.buffer.write("%")
        elif not self.good_index:
            self.buffer.write(f"%!{directive.verb}(BADINDEX)")
        elif self.argument >= len(self.values):
            self.buffer.write(f"%!{directive.verb}(MISSING)")
        else:
            if directive.verb == "v":
                directive.syntax, directive.sharp = directive.sharp, False
                directive.names, directive.plus = directive.plus, False
            write(self.values[self.argument], directive, self.buffer)
            self.argument += 1

    def _width(self, directive: Directive, after_index: bool) -> bool:
        if not self._star():
            directive.width = self._number()
            if after_index and directive.width is not None:
                self.good_index = False
            return after_index
        directive.width = self._from_argument()
        if directive.width is None:
            self.buffer.write("%!(BADWIDTH)")
        elif directive.width < 0:
            directive.width, directive.minus, directive.zero = -directive.width, True, False
        return False

    def _precision(self, directive: Directive, after_index: bool) -> bool:
        if self.layout[self.at : self.at + 1] != "." or self.at + 1 >= len(self.layout):
            return after_index
        self.at += 1
        if after_index:
            self.good_index = False
        after_index = self._index()
        if not self._star():
            directive.precision = self._number() or 0
            return after_index
        directive.precision = self._from_argument()
        if directive.precision is None or directive.precision < 0:
            directive.precision = None
            self.buffer.write("%!(BADPREC)")
        return False

    def _star(self) -> bool:
        is_star = self.layout[self.at : self.at + 1] == "*"
        self.at += is_star
        return is_star

    def _number(self) -> int | None:
        """Read digits; a number that is too large consumes the rest of the layout."""
        digits = _DIGITS.match(self.layout, self.at)
        assert digits is not None  # it may be empty
        self.at = digits.end()
        number = _parse_size(digits[0])
        if number is None and digits[0]:
            self.at = len(self.layout)
        return number

    def _from_argument(self) -> int | None:
        """Take a width or precision from the arguments; None if it is no int in range."""
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument].held()
        self.argument += 1
        if value.type not in (INT, UINT8) or not -_LARGEST <= value.data <= _LARGEST:
            return None
        return int(value.data)

    def _index(self) -> bool:
        """Read an explicit argument index such as `[2]`; returns whether it was valid."""
        if self.layout[self.at : self.at + 1] != "[":
            return False
        self.reordered = True
        end = self.layout.find("]", self.at)
        if end < 0 or len(self.layout) - self.at < 3:
            self.at += 1
            number = None
        else:
            number = _parse_size(self.layout[self.at + 1 : end])
            self.at = end + 1
        if number is not None and 1 <= number <= len(self.values):
            self.argument = number - 1
        else:
            self.good_index = False
        return number is not None

    def _extra(self) -> None:
        self.buffer.write("%!(EXTRA ")
        for place, value in enumerate(self.values[self.argument :]):
            held = value.held()
            self.buffer.write(", " if place else "")
            self.buffer.write(f"{held.type.name}=" if held.valid else "<nil>")
            if held.valid:
                write(held, Directive(), self.buffer)
        self.buffer.write(")")


def _parse_size(digits: str) -> int | None:
    """Parse a decimal number; None if invalid or too large for Go."""
    digits = digits.lstrip("0") or digits[-1:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 8 or int(digits[:-1] or 0) > _LARGEST:
        return None
    return int(digits)
