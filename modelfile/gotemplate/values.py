"""Go values: plain Python data with a Go type.

Templates depend on types: an int is no float64, a struct is no map, and `nil` in an `interface {}` differs from no
value. The data stay plain: decoded JSON (every number a float64, as in Go), and dataclasses for structs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from modelfile.gotemplate.limits import Budget
from modelfile.gotemplate.strings import byte_length

Method = Callable[["Value", Budget], "Value"]


@dataclass(slots=True, eq=False)
class GoType:
    """A Go type, compared by identity; `name` is Go's."""

    name: str
    zero: Any = field(default=None, kw_only=True)
    """The data of the zero value; None is nil."""
    methods: Mapping[str, Method] = field(default_factory=dict, kw_only=True)
    """Methods without arguments; `String` decides how a value prints."""
    simplify: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    """Converts the data before JSON encoding (Go's `MarshalJSON`)."""


@dataclass(slots=True, eq=False)
class SliceType(GoType):
    """A slice; its data is a sequence, or None for nil."""

    element: GoType


@dataclass(slots=True, eq=False)
class MapType(GoType):
    """A map with string keys, visited sorted, or in insertion order if `ordered`."""

    element: GoType
    ordered: bool = False

    def keys(self, data: Mapping[str, Any] | None, budget: Budget) -> list[str]:
        """The keys in the order of iteration and printing. Raises TemplateLimitError."""
        budget.spend_on_each(len(data or ()))
        return list(data or ()) if self.ordered else sorted(data or ())


@dataclass(frozen=True, slots=True)
class Member:
    """A struct's field: Go name, type, and the attribute that holds it ("" is the object itself)."""

    name: str
    type: GoType
    attribute: str
    key: str = ""
    """The JSON key, if it differs from the name."""
    omit_empty: bool = False
    """Whether JSON leaves it out when it is empty."""

    def of(self, data: Any) -> Value:
        """The field's value in an object. An empty tuple is a nil slice."""
        attribute = getattr(data, self.attribute) if self.attribute else data
        return Value(self.type, None if attribute == () else attribute)


@dataclass(slots=True, eq=False)
class StructType(GoType):
    """A struct over the attributes of a Python object. A recursive struct gets its `members` later."""

    members: tuple[Member, ...] = ()

    def member(self, name: str) -> Member | None:
        """The field of this name."""
        for member in self.members:
            if member.name == name:
                return member
        return None


@dataclass(slots=True, eq=False)
class PointerType(GoType):
    """A pointer; its data is the element's, or None for nil."""

    element: GoType


BOOL = GoType("bool", zero=False)
INT = GoType("int", zero=0)
UINT8 = GoType("uint8", zero=0)
FLOAT64 = GoType("float64", zero=0.0)
COMPLEX128 = GoType("complex128", zero=0j)
STRING = GoType("string", zero="")
ANY = GoType("interface {}")
INVALID = GoType("invalid")
ANY_SLICE = SliceType("[]interface {}", ANY)
ANY_MAP = MapType("map[string]interface {}", ANY)


class Value(NamedTuple):
    """A Go type and data of this type."""

    type: GoType
    data: Any

    @property
    def valid(self) -> bool:
        """False only for `NO_VALUE`."""
        return self.type is not INVALID

    def held(self) -> Value:
        """The value inside an interface (`NO_VALUE` for nil); any other value itself."""
        return value_of(self.data) if self.type is ANY else self

    def indirect(self) -> Value:
        """Follow interfaces and pointers to their end, or to nil."""
        value = self
        while value.data is not None:
            if value.type is ANY:
                value = value_of(value.data)
            elif isinstance(value.type, PointerType):
                value = Value(value.type.element, value.data)
            else:
                break
        return value

    @property
    def dead_end(self) -> bool:
        """Whether this is a nil pointer or interface, where `indirect` ends."""
        return self.data is None and (self.type is ANY or isinstance(self.type, PointerType))

    @property
    def truth(self) -> bool:
        """The truth for `if`: empty and zero values are false, structs true."""
        value = self.held()
        return value.data is not None if isinstance(value.type, StructType | PointerType) else bool(value.data)

    @property
    def empty(self) -> bool:
        """Whether JSON's `omitempty` drops it; unlike `truth`, it does not look into interfaces."""
        if self.type is ANY or isinstance(self.type, PointerType):
            return self.data is None
        return not isinstance(self.type, StructType) and not self.data

    @property
    def length(self) -> int:
        """Elements of a slice or map, bytes of a string."""
        if self.type is STRING:
            return byte_length(self.data)
        return len(self.data) if self.data is not None else 0

    def element(self, key: Any) -> Value:
        """An element of a slice (`key` is a valid index) or map (the zero value for a missing key)."""
        if isinstance(self.type, MapType):
            if self.data is None or key not in self.data:
                return Value(self.type.element, self.type.element.zero)
            return Value(self.type.element, self.data[key])
        assert isinstance(self.type, SliceType)
        return Value(self.type.element, self.data[key])


NO_VALUE = Value(INVALID, None)
TRUE, FALSE = Value(BOOL, True), Value(BOOL, False)


def value_of(data: Any) -> Value:
    """JSON data as a Go value; a `Value` is returned as it is. Raises TypeError for anything else."""
    if isinstance(data, str):
        return Value(STRING, data)
    if data is None:
        return NO_VALUE
    if isinstance(data, Value):
        return data
    if isinstance(data, bool):
        return boolean(data)
    if isinstance(data, int | float):
        return Value(FLOAT64, _float(data))
    if isinstance(data, Mapping):
        return Value(ANY_MAP, data)
    if isinstance(data, list | tuple):
        return Value(ANY_SLICE, data)
    raise TypeError(f"not JSON: {type(data).__name__}")


def string(text: str) -> Value:
    """A string."""
    return Value(STRING, text)


def boolean(truth: bool) -> Value:
    """A bool."""
    return TRUE if truth else FALSE


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


class FunctionError(ValueError):
    """A template function failed; becomes `error calling NAME: …`."""


class ParameterKind(Enum):
    """A parameter's type, by its Go name."""

    VALUE = "reflect.Value"
    """Anything, as stored: nil in an interface differs from no value."""
    ANY = "interface {}"
    """Anything, unwrapped from interfaces."""
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Function:
    """A function: `run` takes the budget and the arguments, and may raise FunctionError."""

    run: Callable[..., Value]
    fixed: tuple[ParameterKind, ...] = ()
    rest: ParameterKind | None = None
    """The type of variadic arguments."""
    stops_at: bool | None = None
    """Short circuit: an argument with this truth is the result, later ones are not evaluated."""
    shows_callee: bool = False
    """Whether the first argument's source is passed before it."""

    def parameter(self, place: int) -> ParameterKind:
        """The type of argument number `place`."""
        if place < len(self.fixed) or self.rest is None:
            return self.fixed[place]
        return self.rest
