"""The functions of templates: Go's own, and those that Ollama adds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType
from urllib.parse import quote_plus

from modelfile.gotemplate.encoding import print_as_json
from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.printf import print_format, print_line, print_values, show
from modelfile.gotemplate.strings import from_bytes, to_bytes
from modelfile.gotemplate.values import (
    ANY_SLICE,
    BOOL,
    COMPLEX128,
    FLOAT64,
    INT,
    STRING,
    UINT8,
    Function,
    FunctionError,
    GoType,
    MapType,
    ParameterKind,
    PointerType,
    SliceType,
    Value,
    boolean,
    string,
)

# Comparisons, with Go's rules: an int cannot be compared with a float64.

_BASIC: dict[GoType, str] = {
    BOOL: "bool",
    INT: "integer",
    UINT8: "integer",
    FLOAT64: "float",
    COMPLEX128: "complex",
    STRING: "string",
}
_LONG = 1024  # characters from which a comparison costs steps
_ORDERED = frozenset(["integer", "float", "string"])


def equal(budget: Budget, first: Value, *others: Value) -> Value:
    """Whether the first is equal to any of the others."""
    if not others:
        raise FunctionError("missing argument for comparison")
    first = first.held()
    return boolean(any(_equal(budget, first, other.held()) for other in others))


def not_equal(budget: Budget, first: Value, second: Value) -> Value:
    """The opposite of `equal`."""
    return boolean(not _equal(budget, first.held(), second.held()))


def less(budget: Budget, first: Value, second: Value) -> Value:
    """Whether the first comes before the second."""
    return boolean(_less(budget, first.held(), second.held()))


def less_or_equal(budget: Budget, first: Value, second: Value) -> Value:
    """`less` or `equal`."""
    first, second = first.held(), second.held()
    return boolean(_less(budget, first, second) or _equal(budget, first, second))


def greater(budget: Budget, first: Value, second: Value) -> Value:
    """Not `less_or_equal`."""
    return boolean(not less_or_equal(budget, first, second).data)


def greater_or_equal(budget: Budget, first: Value, second: Value) -> Value:
    """Not `less`."""
    return boolean(not _less(budget, first.held(), second.held()))


def _equal(budget: Budget, first: Value, second: Value) -> bool:
    kind = _BASIC.get(first.type)
    if kind != _BASIC.get(second.type):
        if first.valid and second.valid:
            raise _incompatible(first, second)
        return False
    if kind is None:
        return _equal_composites(budget, first, second)
    _spend(budget, first, second)
    return bool(first.data == second.data)


def _equal_composites(budget: Budget, first: Value, second: Value) -> bool:
    """Compare a slice, map or struct with nil, or two pointers; everything else is an error."""
    if first.valid and second.valid and type(first.type) is not type(second.type):
        names = f"{show(first, budget, 's')}: {first.type.name}, {second.type.name}: {show(second, budget)}"
        raise FunctionError(f"non-comparable types {names}")
    if first.data is None or second.data is None:
        return first.data is second.data
    if not isinstance(second.type, PointerType):
        raise FunctionError(f"non-comparable type {show(second, budget, 's')}: {second.type.name}")
    return first.data is second.data


def _less(budget: Budget, first: Value, second: Value) -> bool:
    kinds = _BASIC.get(first.type), _BASIC.get(second.type)
    if None in kinds:
        raise FunctionError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise _incompatible(first, second)
    if kinds[0] not in _ORDERED:
        raise FunctionError("invalid type for comparison")
    _spend(budget, first, second)
    return bool(first.data < second.data)


def _spend(budget: Budget, first: Value, second: Value) -> None:
    if first.type is STRING and (size := min(len(first.data), len(second.data))) > _LONG:
        budget.spend_on(size // 16)


def _incompatible(first: Value, second: Value) -> FunctionError:
    return FunctionError(f"incompatible types for comparison: {first.type.name} and {second.type.name}")


_TWO = (ParameterKind.VALUE, ParameterKind.VALUE)
COMPARISONS = {
    "eq": Function(equal, (ParameterKind.VALUE,), ParameterKind.VALUE),
    "ne": Function(not_equal, _TWO),
    "lt": Function(less, _TWO),
    "le": Function(less_or_equal, _TWO),
    "gt": Function(greater, _TWO),
    "ge": Function(greater_or_equal, _TWO),
}


# Containers.

_INDEX = 3  # steps per index
_NO_TYPE = "reflect: call of reflect.Value.Type on zero Value"


def length(budget: Budget, item: Value) -> Value:
    """Bytes of a string, elements of a slice or map."""
    item = item.indirect()
    if item.dead_end:
        raise FunctionError("len of nil pointer")
    if item.type is not STRING and not isinstance(item.type, SliceType | MapType):
        raise FunctionError(f"len of type {item.type.name}" if item.valid else _NO_TYPE)
    if item.type is STRING:
        budget.spend_on(len(item.data))
    return Value(INT, item.length)


def index(budget: Budget, item: Value, *indexes: Value) -> Value:
    """`index x 1 "a"` is `x[1]["a"]`; a missing key gives the zero value."""
    item = item.held()
    if not item.valid:
        raise FunctionError("index of untyped nil")
    for key in indexes:
        budget.spend(_INDEX)
        item = item.indirect()
        if item.dead_end:
            raise FunctionError("index of nil pointer")
        item = _element(budget, item, key.held())
    return item


def _element(budget: Budget, item: Value, key: Value) -> Value:
    if isinstance(item.type, MapType):
        if not key.valid:
            raise FunctionError("value is nil; should be of type string")
        if key.type is not STRING:
            raise FunctionError(f"value has type {key.type.name}; should be string")
        return item.element(key.data)
    if item.type is not STRING and not isinstance(item.type, SliceType):
        raise FunctionError(f"can't index item of type {item.type.name}")
    place = _place(key, item.length)
    if place == item.length:
        raise FunctionError(f"reflect: {'string' if item.type is STRING else 'slice'} index out of range")
    if item.type is not STRING:
        return item.element(place)
    budget.spend_on(len(item.data))
    return Value(UINT8, to_bytes(item.data)[place])


def _place(key: Value, most: int) -> int:
    """An index between 0 and `most`, both included."""
    if not key.valid:
        raise FunctionError("cannot index slice/array with nil")
    if key.type not in (INT, UINT8):
        raise FunctionError(f"cannot index slice/array with type {key.type.name}")
    if not 0 <= key.data <= most:
        raise FunctionError(f"index out of range: {key.data}")
    return int(key.data)


def cut(budget: Budget, item: Value, *indexes: Value) -> Value:
    """`slice x 1 2` is `x[1:2]`."""
    item = item.held()
    if not item.valid:
        raise FunctionError("slice of untyped nil")
    item = item.indirect()
    if item.dead_end:
        raise FunctionError("slice of nil pointer")
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    if len(indexes) == 3 and item.type is STRING:
        raise FunctionError("cannot 3-index slice a string")
    if item.type is not STRING and not isinstance(item.type, SliceType):
        raise FunctionError(f"can't slice item of type {item.type.name}")
    budget.spend_on(item.length // 4)
    start, end = _bounds(indexes, item.length, _capacity(item))
    if item.type is STRING:
        return string(from_bytes(to_bytes(item.data)[start:end]))
    if item.data is None:
        return item
    beyond = [None] * (end - item.length)
    return Value(item.type, [*item.data[start:], *beyond] if beyond else item.data[start:end])


def _bounds(indexes: tuple[Value, ...], length: int, capacity: int) -> tuple[int, int]:
    places = [_place(key, capacity) for key in indexes]
    start = places[0] if places else 0
    end = places[1] if len(places) > 1 else length
    for low, high in ((start, end), (end, places[2] if len(places) > 2 else end)):
        if low > high:
            raise FunctionError(f"invalid slice index: {low} > {high}")
    return start, end


def _capacity(item: Value) -> int:
    """Go's capacity of a slice: its JSON decoder doubles a full slice."""
    return 1 << (item.length - 1).bit_length() if item.type is ANY_SLICE and item.length else item.length


CONTAINERS = {
    "len": Function(length, (ParameterKind.VALUE,)),
    "index": Function(index, (ParameterKind.VALUE,), ParameterKind.VALUE),
    "slice": Function(cut, (ParameterKind.VALUE,), ParameterKind.VALUE),
}


# Printing and escaping.

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"})
_JS = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in (*range(0x20), *b"<>&=")} | {"\\": "\\\\", "'": "\\'", '"': '\\"'}
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def print_(budget: Budget, *values: Value) -> Value:
    """Go's `print`."""
    buffer = Buffer(budget)
    print_values(values, buffer)
    return string(buffer.text())


def println(budget: Budget, *values: Value) -> Value:
    """Go's `println`."""
    buffer = Buffer(budget)
    print_line(values, buffer)
    return string(buffer.text())


def printf(budget: Budget, layout: Value, *values: Value) -> Value:
    """Go's `printf`."""
    buffer = Buffer(budget)
    print_format(layout.data, values, buffer)
    return string(buffer.text())


def html(budget: Budget, *values: Value) -> Value:
    """Escape for HTML."""
    return string(_printed(budget, values).translate(_HTML))


def js(budget: Budget, *values: Value) -> Value:
    """Escape for a JavaScript string."""
    text = _printed(budget, values).translate(_JS)
    return string(_NOT_ASCII.sub(lambda match: _js_unicode(match[0]), text))


def _js_unicode(text: str) -> str:
    if text.isprintable():
        return text
    keep = (char.isprintable() or "\ud800" <= char <= "\udfff" for char in text)
    return "".join(char if kept else f"\\u{ord(char):04X}" for char, kept in zip(text, keep, strict=True))


def urlquery(budget: Budget, *values: Value) -> Value:
    """Escape for a URL's query."""
    return string(quote_plus(to_bytes(_printed(budget, values)), safe=""))


def _printed(budget: Budget, values: tuple[Value, ...]) -> str:
    """The values as actions print them, with the cost of work on each character."""
    buffer = Buffer(budget)
    print_values([_shown(value) for value in values], buffer)
    text = buffer.text()
    budget.spend_on_each(len(text))
    return text


def _shown(value: Value) -> Value:
    value = value.held()
    if not value.valid:
        return string("<no value>")
    return value.indirect() if isinstance(value.type, PointerType) else value


_ANY_TEXT = ParameterKind.ANY
TEXTS = {
    "print": Function(print_, rest=_ANY_TEXT),
    "println": Function(println, rest=_ANY_TEXT),
    "printf": Function(printf, (ParameterKind.STRING,), _ANY_TEXT),
    "html": Function(html, rest=_ANY_TEXT),
    "js": Function(js, rest=_ANY_TEXT),
    "urlquery": Function(urlquery, rest=_ANY_TEXT),
}


_CLOCK = 5  # steps per call


def last(budget: Budget, *values: Value) -> Value:
    """The result of `and` and `or` if no earlier argument decided."""
    return values[-1]


def not_(budget: Budget, value: Value) -> Value:
    """Logical negation."""
    return boolean(not value.truth)


def call(budget: Budget, source: Value, callee: Value, *arguments: Value) -> Value:
    """Always an error: no value is a function."""
    callee = callee.held()
    if not callee.valid:
        raise FunctionError("call of nil")
    raise FunctionError(f"non-function {source.data} of type {callee.type.name}")


def json(budget: Budget, value: Value) -> Value:
    """The value as JSON, empty if it has none."""
    return print_as_json(value, budget)


def current_date(budget: Budget, *layouts: Value) -> Value:
    """Today as YYYY-MM-DD; layouts are ignored."""
    budget.spend(_CLOCK)
    return string(date.today().isoformat())


def yesterday_date(budget: Budget, *layouts: Value) -> Value:
    """Yesterday as YYYY-MM-DD."""
    budget.spend(_CLOCK)
    return string((date.today() - timedelta(days=1)).isoformat())


def to_type_script_type(budget: Budget, value: Value) -> Value:
    """The TypeScript type of a tool's property; `any` for everything else."""
    method = value.type.methods.get("ToTypeScriptType")
    return string("any") if method is None else method(value, budget)


_VALUE, _ANY, _STRING = ParameterKind.VALUE, ParameterKind.ANY, ParameterKind.STRING
_LOGIC = {
    "and": Function(last, (_VALUE,), _VALUE, stops_at=False),
    "or": Function(last, (_VALUE,), _VALUE, stops_at=True),
    "not": Function(not_, (_VALUE,)),
    "call": Function(call, (_VALUE,), _VALUE, shows_callee=True),
}
_ADDED = {
    "json": Function(json, (_ANY,)),
    "currentDate": Function(current_date, rest=_STRING),
    "yesterdayDate": Function(yesterday_date, rest=_STRING),
    "toTypeScriptType": Function(to_type_script_type, (_ANY,)),
}
FUNCTIONS: Mapping[str, Function] = MappingProxyType({**_LOGIC, **CONTAINERS, **TEXTS, **COMPARISONS, **_ADDED})
