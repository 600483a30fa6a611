"""`eq`, `ne`, `lt`, `le`, `gt`, `ge` with Go's rules: an int and a float64 cannot even be compared."""

from __future__ import annotations

from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.signature import Function, FunctionError, Parameter
from modelfile.gotemplate.values import (
    BOOL,
    COMPLEX128,
    FLOAT64,
    INT,
    STRING,
    UINT8,
    GoType,
    PointerType,
    Value,
    boolean,
)
from modelfile.gotemplate.verbs import show

_BASIC: dict[GoType, str] = {
    BOOL: "bool",
    INT: "integer",
    UINT8: "integer",
    FLOAT64: "float",
    COMPLEX128: "complex",
    STRING: "string",
}
_LONG = 1024  # characters of which a comparison is worth counting
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
    """Slices, maps and structs can only be compared to nil, pointers with each other."""
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


_TWO = (Parameter.VALUE, Parameter.VALUE)
COMPARISONS = {
    "eq": Function(equal, (Parameter.VALUE,), Parameter.VALUE),
    "ne": Function(not_equal, _TWO),
    "lt": Function(less, _TWO),
    "le": Function(less_or_equal, _TWO),
    "gt": Function(greater, _TWO),
    "ge": Function(greater_or_equal, _TWO),
}
