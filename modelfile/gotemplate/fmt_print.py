"""One value under a verb of `printf`: `%v` of anything, `%5.2f` of a number, `%!d(string=a)` if it does not fit."""

from __future__ import annotations

from modelfile.gotemplate.fmt_scalars import FORMATS, Directive
from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.strings import from_bytes
from modelfile.gotemplate.values import ANY, STRING, UINT8, MapType, PointerType, SliceType, StructType, Value

_TEXT_VERBS = frozenset("vsxXq")  # verbs that call a `String` method
_STEPS = 4  # cost of a value, in addition to its text


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
        self._buffer.budget.spend(_STEPS)
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
