"""One value under one verb of `printf`: `%v` of anything, `%5.2f` of a number, `%!d(string=a)` of a mistake."""

from __future__ import annotations

from dataclasses import dataclass

from modelfile.gotemplate.floats import format_float
from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.quoting import backquoted, quote
from modelfile.gotemplate.strings import from_bytes, to_bytes
from modelfile.gotemplate.values import (
    ANY,
    BOOL,
    COMPLEX128,
    FLOAT64,
    INT,
    STRING,
    UINT8,
    MapType,
    PointerType,
    SliceType,
    StructType,
    Value,
)

_TEXT_VERBS = frozenset("vsxXq")  # those under which a `String` method is asked
_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}
_FLOATS: dict[str, tuple[str, int | None]] = {
    "v": ("g", None),
    **{verb: (verb, None) for verb in "gGbxX"},
    **{verb: (verb, 6) for verb in "feE"},
    "F": ("f", 6),
}
"""Of each verb the form of a float64 and its usual precision."""
_STEPS = 2  # that a value costs beside its text
_LARGEST_RUNE = 0x10FFFF


@dataclass(slots=True)
class Directive:
    """What stands between `%` and the end of the verb."""

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


def show(value: Value, budget: Budget, verb: str = "v") -> str:
    """A value as the verb prints it."""
    buffer = Buffer(budget)
    write(value, Directive(verb), buffer)
    return buffer.text()


def write(value: Value, directive: Directive, buffer: Buffer) -> None:
    """Print one argument of a function; nil is `<nil>`."""
    value = value.held()
    writer = _Writer(directive, buffer)
    if directive.verb == "T":
        writer.padded(writer.cut(value.type.name) if value.valid else "<nil>")
    elif value.valid:
        writer.value(value)
    elif directive.verb == "v":
        writer.padded("<nil>")
    else:
        buffer.write(f"%!{directive.verb}(<nil>)")


class _Writer:
    """Writes values under one directive. Flags go down to the elements, as in Go."""

    def __init__(self, directive: Directive, buffer: Buffer) -> None:
        self._directive = directive
        self._buffer = buffer
        self._verb = directive.verb
        self._complaining = False

    def value(self, value: Value) -> None:
        """Print a value; of what interfaces hold only nil looks different."""
        self._buffer.budget.spend(_STEPS)
        if value.data is not None:
            value = value.held()
        if self._verb in "pw":  # pointers have no address here, and only errors can be wrapped
            self._bad_verb(value)
        elif self._prints_itself(value):
            self._string(value.type.methods["String"](value, self._buffer.budget))
        elif (write_basic := _BASIC.get(value.type.name)) is not None:
            write_basic(self, value)
        else:
            self._buffer.budget.enter()
            _COMPOSITE[type(value.type)](self, value)
            self._buffer.budget.leave()

    def _prints_itself(self, value: Value) -> bool:
        silent = self._complaining or self._directive.syntax or self._verb not in _TEXT_VERBS
        return not silent and "String" in value.type.methods

    def _nil_interface(self, value: Value) -> None:
        self._buffer.write(f"{value.type.name}(nil)" if self._directive.syntax else "<nil>")

    def _pointer(self, value: Value) -> None:
        """Pointers inside other values are followed too: in Go they print as addresses, which nobody can use."""
        if value.data is None:
            self.padded("<nil>")
        else:
            self._buffer.write("&")
            self.value(value.indirect())

    def _slice(self, value: Value) -> None:
        assert isinstance(value.type, SliceType)
        element = value.type.element
        if element is UINT8 and self._verb in "sqxX":
            self._string(Value(STRING, from_bytes(value.data or b"")))
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

    def _bool(self, value: Value) -> None:
        if self._verb in "tv":
            self.padded("true" if value.data else "false")
        else:
            self._bad_verb(value)

    def _string(self, value: Value) -> None:
        text: str = value.data
        if self._verb in "xX":
            self._hex_bytes(to_bytes(text))
        elif self._verb == "q" or (self._verb == "v" and self._directive.syntax):
            self._quoted(self.cut(text))
        elif self._verb in "vs":
            self.padded(self.cut(text))
        else:
            self._bad_verb(value)

    def cut(self, text: str) -> str:
        """As much of a text as the precision lets through."""
        return text if self._directive.precision is None else text[: self._directive.precision]

    def _quoted(self, text: str) -> None:
        self._buffer.budget.spend_on_each(len(text))
        raw = backquoted(text) if self._directive.sharp else None
        self.padded(raw or quote(text, ascii_only=self._directive.plus))

    def _hex_bytes(self, data: bytes) -> None:
        directive = self._directive
        data = data if directive.precision is None else data[: directive.precision]
        prefix = f"0{self._verb}" if directive.sharp and data else ""
        text = data.hex(" ") if directive.space else data.hex()
        text = text.upper() if self._verb == "X" else text
        self.padded(prefix + (text.replace(" ", f" {prefix}") if directive.space else text))

    def _integer(self, value: Value) -> None:
        number: int = value.data
        if self._verb == "c":
            self.padded(_rune(number))
        elif self._verb == "q":
            self.padded(quote(_rune(number), "'", ascii_only=self._directive.plus))
        elif self._verb == "U":
            self._unicode(number)
        elif self._verb == "v" and self._directive.syntax and value.type is UINT8:
            self.padded(f"{number:#x}")
        elif self._verb in _BASES:
            self._digits(number)
        else:
            self._bad_verb(value)

    def _digits(self, number: int) -> None:
        directive = self._directive
        if directive.precision == 0 and number == 0:
            self.padded("", zero=False)
            return
        sign = "-" if number < 0 else "+" if directive.plus else " " if directive.space else ""
        digits = f"{abs(number):{_BASES[self._verb]}}"
        if directive.precision is not None:
            digits = digits.rjust(directive.precision, "0")
        elif directive.zero and not directive.minus and directive.width is not None:
            digits = digits.rjust(directive.width - len(sign), "0")
        self.padded(sign + self._prefixed(digits), zero=False)

    def _prefixed(self, digits: str) -> str:
        if self._directive.sharp and self._verb in "oO" and not digits.startswith("0"):
            digits = "0" + digits
        if self._verb == "O":
            return "0o" + digits
        return (_PREFIXES.get(self._verb, "") if self._directive.sharp else "") + digits

    def _unicode(self, number: int) -> None:
        code = number % (1 << 64)
        digits = f"{code:X}".rjust(max(4, self._directive.precision or 0), "0")
        shows = self._directive.sharp and code <= _LARGEST_RUNE and chr(code).isprintable()
        self.padded(f"U+{digits} '{chr(code)}'" if shows else f"U+{digits}", zero=False)

    def _float(self, value: Value) -> None:
        if self._verb in _FLOATS:
            self._signed_float(value.data, plus=self._directive.plus)
        else:
            self._bad_verb(value)

    def _complex(self, value: Value) -> None:
        if self._verb not in _FLOATS:
            self._bad_verb(value)
            return
        self._buffer.write("(")
        self._signed_float(value.data.real, plus=self._directive.plus)
        self._signed_float(value.data.imag, plus=True)
        self._buffer.write("i)")

    def _signed_float(self, number: float, *, plus: bool) -> None:
        directive = self._directive
        verb, precision = _FLOATS[self._verb]
        precision = precision if directive.precision is None else directive.precision
        text = format_float(number, verb, precision)
        sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
        if directive.space and sign == "+" and not plus:
            sign = " "
        if digits in ("Inf", "NaN"):
            self.padded(digits if digits == "NaN" and not (plus or directive.space) else sign + digits, zero=False)
            return
        if directive.sharp and verb != "b":
            digits = _with_point(digits, verb, precision)
        sign = sign if plus or sign != "+" else ""
        if sign and directive.zero and not directive.minus:
            digits = digits.rjust((directive.width or 0) - 1, "0")
        self.padded(sign + digits)

    def padded(self, text: str, *, zero: bool = True) -> None:
        """Write a text filled up to the width; zeros only stand on the left."""
        width = self._directive.width or 0
        if self._directive.minus:
            self._buffer.write(text.ljust(width))
        else:
            self._buffer.write(text.rjust(width, "0" if zero and self._directive.zero else " "))

    def _bad_verb(self, value: Value) -> None:
        self._buffer.write(f"%!{self._verb}({value.type.name}=")
        verb, self._verb, self._complaining = self._verb, "v", True
        self.value(value)
        self._verb, self._complaining = verb, False
        self._buffer.write(")")


_BASIC = {
    BOOL.name: _Writer._bool,
    INT.name: _Writer._integer,
    UINT8.name: _Writer._integer,
    FLOAT64.name: _Writer._float,
    COMPLEX128.name: _Writer._complex,
    STRING.name: _Writer._string,
}
_COMPOSITE = {
    type(ANY): _Writer._nil_interface,
    PointerType: _Writer._pointer,
    SliceType: _Writer._slice,
    MapType: _Writer._map,
    StructType: _Writer._struct,
}


def _rune(code: int) -> str:
    valid = 0 <= code <= _LARGEST_RUNE and not 0xD800 <= code <= 0xDFFF
    return chr(code) if valid else "\ufffd"


def _with_point(digits: str, verb: str, precision: int | None) -> str:
    """The `#` flag: always a decimal point, and under %g the zeros at the end."""
    exponent_mark = "pP" if verb in "xX" else "eE"
    end = next((at for at, char in enumerate(digits) if char in exponent_mark), len(digits))
    number, exponent = digits[:end], digits[end:]
    missing = (6 if precision is None else precision) if verb in "gGx" else 0
    missing -= len(number.lstrip("0.").replace(".", "")) or int(number == "0")
    return number + ("" if "." in number else ".") + "0" * missing + exponent
