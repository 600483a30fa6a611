"""Values as Go sees them: data together with the type it is stored under.

A template asks about types all the time: an int is no float64, a struct is no map, and `nil` in an `interface {}` is
not the same as no value at all. So every value carries its Go type. The data behind it stays plain: JSON as Python
decodes it (where, as in Go, every number is a float64), and dataclasses for structs.
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
    """A type, known by its name in Go; two of the same name are two types."""

    name: str
    zero: Any = field(default=None, kw_only=True)
    """The data of what was not set; None is Go's nil."""
    methods: Mapping[str, Method] = field(default_factory=dict, kw_only=True)
    """What can be called without arguments. One called `String` decides how a value prints."""
    simplify: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    """The JSON of the type is the JSON of what this gives (Go: a `MarshalJSON` of its own)."""


@dataclass(slots=True, eq=False)
class SliceType(GoType):
    """A list; its data is a sequence, or None for a nil slice."""

    element: GoType


@dataclass(slots=True, eq=False)
class MapType(GoType):
    """A map from strings. Go visits the keys sorted; an `ordered` one stands for a type that keeps them in order."""

    element: GoType
    ordered: bool = False

    def keys(self, data: Mapping[str, Any] | None, budget: Budget) -> list[str]:
        """The keys in the order in which they are visited and printed. Raises TemplateLimitError."""
        budget.spend_on_each(len(data or ()))
        return list(data or ()) if self.ordered else sorted(data or ())


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a struct: its name in Go, its type, the attribute that holds it ("" is the object itself)."""

    name: str
    type: GoType
    attribute: str
    key: str = ""
    """The key in JSON, if it is not the name."""
    omit_empty: bool = False
    """Whether JSON leaves it out when it is empty."""

    def of(self, data: Any) -> Value:
        """The field's value in an object. An empty tuple, the default of such attributes, is a nil slice."""
        found = getattr(data, self.attribute) if self.attribute else data
        return Value(self.type, None if found == () else found)


@dataclass(slots=True, eq=False)
class StructType(GoType):
    """A struct over the attributes of a Python object. `members` is set later where a struct contains itself."""

    members: tuple[Member, ...] = ()

    def member(self, name: str) -> Member | None:
        """The field of this name."""
        for member in self.members:
            if member.name == name:
                return member
        return None


@dataclass(slots=True, eq=False)
class PointerType(GoType):
    """A pointer; its data is that of the element, or None."""

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
    """A type and the data stored under it."""

    type: GoType
    data: Any

    @property
    def valid(self) -> bool:
        """False only for `NO_VALUE`."""
        return self.type is not INVALID

    def held(self) -> Value:
        """What an interface holds (`NO_VALUE` for nil); any other value itself."""
        return value_of(self.data) if self.type is ANY else self

    def indirect(self) -> Value:
        """What is at the end of interfaces and pointers; a nil on the way is where it ends."""
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
        """Whether `indirect` ended in a nil pointer or interface."""
        return self.data is None and (self.type is ANY or isinstance(self.type, PointerType))

    @property
    def truth(self) -> bool:
        """What `if` makes of it: empty and zero values are false, structs are true."""
        value = self.held()
        return value.data is not None if isinstance(value.type, StructType | PointerType) else bool(value.data)

    @property
    def empty(self) -> bool:
        """What JSON leaves out of structs: unlike `if`, it does not look into interfaces."""
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
        """An element of a slice (`key` is a valid index) or of a map, where a missing one is the zero value."""
        if isinstance(self.type, MapType):
            if self.data is None or key not in self.data:
                return Value(self.type.element, self.type.element.zero)
            return Value(self.type.element, self.data[key])
        assert isinstance(self.type, SliceType)
        return Value(self.type.element, self.data[key])


NO_VALUE = Value(INVALID, None)
TRUE, FALSE = Value(BOOL, True), Value(BOOL, False)


def value_of(data: Any) -> Value:
    """Plain JSON data as Go's decoder would hold it. A `Value` is left as it is. Raises TypeError for anything else."""
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


# How functions look to the evaluator: what they take, how they fail.


class FunctionError(ValueError):
    """A function cannot do what it was asked; becomes `error calling NAME: …`."""


class Parameter(Enum):
    """The type of a parameter, by its name in Go."""

    VALUE = "reflect.Value"
    """Anything, as it is stored: nil in an interface is not the same as no value."""
    ANY = "interface {}"
    """Anything, as what it is."""
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Function:
    """A function: `run` takes the budget and the arguments, and may raise FunctionError."""

    run: Callable[..., Value]
    fixed: tuple[Parameter, ...] = ()
    rest: Parameter | None = None
    """The type of any number of further arguments."""
    stops_at: bool | None = None
    """The truth of an argument that ends the evaluation: it is the result, those behind it are not evaluated."""
    shows_callee: bool = False
    """The source of the first argument is passed in front of it."""

    def parameter(self, place: int) -> Parameter:
        """The type of the argument at this place."""
        if place < len(self.fixed) or self.rest is None:
            return self.fixed[place]
        return self.rest
