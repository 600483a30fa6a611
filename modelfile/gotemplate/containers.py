"""`len`, `index` and `slice`."""

from __future__ import annotations

from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.signature import Function, FunctionError, Parameter
from modelfile.gotemplate.strings import from_bytes, to_bytes
from modelfile.gotemplate.values import ANY_SLICE, INT, STRING, UINT8, MapType, SliceType, Value, string

_INDEX = 3  # steps that a step into a container costs
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
    """`index x 1 "a"` is `x[1]["a"]`; what a map has not is the zero value."""
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
    """An index between 0 and `most`, both included: what is in range is asked later."""
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
    """How far a slice may reach: Go's JSON decoder doubles the memory of a slice whenever it is full."""
    return 1 << (item.length - 1).bit_length() if item.type is ANY_SLICE and item.length else item.length


CONTAINERS = {
    "len": Function(length, (Parameter.VALUE,)),
    "index": Function(index, (Parameter.VALUE,), Parameter.VALUE),
    "slice": Function(cut, (Parameter.VALUE,), Parameter.VALUE),
}
