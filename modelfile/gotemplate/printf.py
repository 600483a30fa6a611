"""Go's `print`, `println` and `printf`: layouts, and values under their verbs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelfile.gotemplate.fmt_scalars import FORMATS, Directive
from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.strings import from_bytes
from modelfile.gotemplate.values import ANY, INT, STRING, UINT8, MapType, PointerType, SliceType, StructType, Value

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


_TEXT_VERBS = frozenset("vsxXq")  # verbs that call a `String` method


_VALUE_STEPS = 4  # cost of a value, in addition to its text


def show(value: Value, budget: Budget, verb: str = "v") -> str:
    """A value printed under a verb."""
    buffer = Buffer(budget)
    write(value, Directive(verb), buffer)
    return buffer.text()


def write(value: Value, directive: Directive, buffer: Buffer) -> None:
    """Print one argument; nil is `<nil>`."""
    value = value.held()
    if directive.verb == "T":
        buffer.write(directive.padded(directive.cut(value.type.name) if value.valid else "<nil>"))
    elif value.valid:
        _ValuePrinter(directive, buffer).value(value)
    elif directive.verb == "v":
        buffer.write(directive.padded("<nil>"))
    else:
        buffer.write(f"%!{directive.verb}(<nil>)")


class _ValuePrinter:
    """Writes values under one directive. Flags apply to elements, too, as in Go."""

    def __init__(self, directive: Directive, buffer: Buffer) -> None:
        self._directive = directive
        self._buffer = buffer
        self._verb = directive.verb
        self._complaining = False

    def value(self, value: Value) -> None:
        """Print a value; an interface prints as what it holds."""
        self._buffer.budget.spend(_VALUE_STEPS)
        if value.data is not None:
            value = value.held()
        if self._verb in "pw":  # pointers have no address here, and only errors can be wrapped
            self._bad_verb(value)
        elif self._prints_itself(value):
            self._basic(value.type.methods["String"](value, self._buffer.budget))
        elif value.type in FORMATS:
            self._basic(value)
        else:
            self._buffer.budget.enter()
            _COMPOSITE[type(value.type)](self, value)
            self._buffer.budget.leave()

    def _prints_itself(self, value: Value) -> bool:
        silent = self._complaining or self._directive.syntax or self._verb not in _TEXT_VERBS
        return not silent and "String" in value.type.methods

    def _basic(self, value: Value) -> None:
        if value.type is STRING and self._verb not in "vs":
            self._buffer.budget.spend_on_each(len(value.data))
        text = FORMATS[value.type](value.data, self._verb, self._directive)
        if text is None:
            self._bad_verb(value)
        else:
            self._buffer.write(text)

    def _nil_interface(self, value: Value) -> None:
        self._buffer.write(f"{value.type.name}(nil)" if self._directive.syntax else "<nil>")

    def _pointer(self, value: Value) -> None:
        """Print a pointer as its target, also inside other values, where Go would print an address."""
        if value.data is None:
            self._buffer.write(self._directive.padded("<nil>"))
        else:
            self._buffer.write("&")
            self.value(value.indirect())

    def _slice(self, value: Value) -> None:
        assert isinstance(value.type, SliceType)
        element = value.type.element
        if element is UINT8 and self._verb in "sqxX":
            self._basic(Value(STRING, from_bytes(value.data or b"")))
            return
        self._open(value, "[")
        for place, data in enumerate(value.data or ()):
            self._separate(place)
            self.value(Value(element, data))
        self._close(value, "]")

    def _map(self, value: Value) -> None:
        assert isinstance(value.type, MapType)
        self._open(value, "map[")
        for place, key in enumerate(value.type.keys(value.data, self._buffer.budget)):
            self._separate(place)
            self.value(Value(STRING, key))
            self._buffer.write(":")
            self.value(value.element(key))
        self._close(value, "]")

    def _struct(self, value: Value) -> None:
        assert isinstance(value.type, StructType)
        self._open(value, "{")
        for place, member in enumerate(value.type.members):
            self._separate(place)
            if self._directive.names or self._directive.syntax:
                self._buffer.write(f"{member.name}:")
            self.value(member.of(value.data))
        self._close(value, "}")

    def _open(self, value: Value, plain: str) -> None:
        if not self._directive.syntax:
            self._buffer.write(plain)
        else:
            self._buffer.write(value.type.name + ("(nil)" if value.data is None else "{"))

    def _close(self, value: Value, plain: str) -> None:
        if not self._directive.syntax:
            self._buffer.write(plain)
        elif value.data is not None:
            self._buffer.write("}")

    def _separate(self, place: int) -> None:
        if place:
            self._buffer.write(", " if self._directive.syntax else " ")

    def _bad_verb(self, value: Value) -> None:
        self._buffer.write(f"%!{self._verb}({value.type.name}=")
        verb, self._verb, self._complaining = self._verb, "v", True
        self.value(value)
        self._verb, self._complaining = verb, False
        self._buffer.write(")")


_COMPOSITE = {
    type(ANY): _ValuePrinter._nil_interface,
    PointerType: _ValuePrinter._pointer,
    SliceType: _ValuePrinter._slice,
    MapType: _ValuePrinter._map,
    StructType: _ValuePrinter._struct,
}
