"""JSON values into typed fields, with the error texts of Go's encoding/json.

Go's decoder does not stop at a value of the wrong type: it notes the first and reads on, and the note is the result.
A type with an `UnmarshalJSON` of its own ends the decoding at once with its own error. Both are kept here, because
they decide which of two mistakes a client is told. `null` leaves a field as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from server.gojson import Float, Object, plain
from server.gotext import decode_base64

T = TypeVar("T")
D = TypeVar("D")
_INT64 = range(-(2**63), 2**63)
_UINT8 = range(256)


class TypeMismatch(ValueError):
    """A value has the wrong type: what was found, where, and the Go type that was expected."""

    def __init__(self, got: str, struct: str, path: tuple[str, ...], go: str) -> None:
        place = f"Go struct field {struct}.{'.'.join(path)}" if struct or path else "Go value"
        super().__init__(f"json: cannot unmarshal {got} into {place} of type {go}")
        self.got, self.path, self.go = got, path, go


class Cursor:
    """Where in a document the decoding stands. `struct` and `path` are what an error names."""

    def __init__(self) -> None:
        self.struct = ""
        self.path: tuple[str, ...] = ()
        self.first: ValueError | None = None

    def mismatch(self, value: Any, go: str, *, literal: bool = False) -> None:
        """Note a value of the wrong type, unless an earlier one is noted."""
        self.note(TypeMismatch(describe(value, literal=literal), self.struct, self.path, go))

    def note(self, error: ValueError) -> None:
        """Note an error after which Go reads on."""
        self.first = self.first or error

    def in_context(self, error: ValueError) -> ValueError:
        """An error of a decoder of its own, placed in this document."""
        if isinstance(error, TypeMismatch) and (self.struct or self.path):
            return TypeMismatch(error.got, self.struct, self.path + error.path, error.go)
        return error


class Kind(Generic[T]):
    """One Go type: its name in errors, its zero value, and how to read it (never called with None)."""

    def __init__(self, go: str, zero: T, read: Callable[[Any, Cursor], T | None]) -> None:
        self.go = go
        self.zero = zero
        self.read = read


def describe(value: Any, *, literal: bool = False) -> str:
    """What Go calls a value in an error; numbers with their digits if `literal`."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value.literal if isinstance(value, Float) else value}" if literal else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Object) else "array"


def _read_string(value: Any, at: Cursor) -> str | None:
    if isinstance(value, str):
        return value
    at.mismatch(value, "string")
    return None


def _read_bool(value: Any, at: Cursor) -> bool | None:
    if isinstance(value, bool):
        return value
    at.mismatch(value, "bool")
    return None


def _read_int(value: Any, at: Cursor) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return value
    at.mismatch(value, "int", literal=True)
    return None


def _read_float(value: Any, at: Cursor) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    at.mismatch(value, "float64", literal=isinstance(value, float))
    return None


def _read_any(value: Any, at: Cursor) -> Any:
    if (infinite := _first_infinite(value)) is not None:
        at.mismatch(infinite, "float64", literal=True)
        return None
    return plain(value)


def _first_infinite(value: Any) -> Float | None:
    if isinstance(value, list):
        children = [pair[1] for pair in value] if isinstance(value, Object) else value
        return next((found for child in children if (found := _first_infinite(child)) is not None), None)
    return value if isinstance(value, Float) and math.isinf(value) else None


def _read_byte(value: Any, at: Cursor) -> int:
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and value in _UINT8:
        return value
    at.mismatch(value, "uint8", literal=True)
    return 0


def _read_bytes(value: Any, at: Cursor) -> bytes | None:
    if isinstance(value, list) and not isinstance(value, Object):
        return bytes(_read_byte(item, at) for item in value)
    if not isinstance(value, str):
        at.mismatch(value, "api.ImageData")
        return None
    try:
        return decode_base64(value)
    except ValueError as error:
        at.note(error)
        return None


STRING: Kind[str] = Kind("string", "", _read_string)
BOOL: Kind[bool] = Kind("bool", False, _read_bool)
INT: Kind[int] = Kind("int", 0, _read_int)
FLOAT: Kind[float] = Kind("float64", 0.0, _read_float)
ANY: Kind[Any] = Kind("interface {}", None, _read_any)
IMAGE: Kind[bytes] = Kind("api.ImageData", b"", _read_bytes)


def list_of(item: Kind[T], go: str = "") -> Kind[tuple[T, ...]]:
    """A Go slice. A null or wrong element counts as the zero value."""
    name = go or f"[]{item.go}"

    def read(value: Any, at: Cursor) -> tuple[T, ...] | None:
        if not isinstance(value, list) or isinstance(value, Object):
            at.mismatch(value, name)
            return None
        found = (None if element is None else item.read(element, at) for element in value)
        return tuple(item.zero if element is None else element for element in found)

    return Kind(name, (), read)


def map_of(item: Kind[T], go: str = "") -> Kind[Mapping[str, T]]:
    """A Go map with text keys, in the order of the document; of equal keys the last counts."""
    name = go or f"map[string]{item.go}"

    def read(value: Any, at: Cursor) -> Mapping[str, T] | None:
        if not isinstance(value, Object):
            at.mismatch(value, name)
            return None
        found = ((key, None if element is None else item.read(element, at)) for key, element in value)
        return {key: item.zero if element is None else element for key, element in found}

    return Kind(name, {}, read)


def custom(go: str, zero: T, parse: Callable[[Any], T]) -> Kind[T]:
    """A type that decodes itself: the ValueError of `parse` ends the decoding at once."""

    def read(value: Any, at: Cursor) -> T:
        try:
            return parse(value)
        except ValueError as error:
            raise at.in_context(error) from None

    return Kind(go, zero, read)


@dataclass(frozen=True, slots=True)
class _Member:
    kind: Kind[Any]
    name: str


@overload
def member(kind: Kind[T], name: str = ...) -> T: ...
@overload
def member(kind: Kind[T], name: str = ..., *, default: D) -> T | D: ...
def member(kind: Kind[Any], name: str = "", *, default: Any = dataclasses.MISSING) -> Any:
    """A field of a request dataclass. `name` is the JSON key if it differs from the attribute."""
    metadata = {"member": _Member(kind, name)}
    if default is dataclasses.MISSING:
        default = kind.zero
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def struct(cls: type[T], go: str) -> Kind[T]:
    """A Go struct as a dataclass made of `member` fields. Keys match in any case; unknown ones are ignored."""
    members = _members(cls)
    name = go.rpartition(".")[2]

    def read(value: Any, at: Cursor) -> T | None:
        if not isinstance(value, Object):
            at.mismatch(value, go)
            return None
        outer = at.struct, at.path
        values: dict[str, Any] = {}
        for key, element in value:
            if element is None or (found := members.get(key.lower())) is None:
                continue
            attribute, kind, json_key = found
            at.struct, at.path = name, (*outer[1], json_key)
            if (decoded := kind.read(element, at)) is not None:
                values[attribute] = decoded
        at.struct, at.path = outer
        return cls(**values)

    return Kind(go, cls(), read)


def _members(cls: type[Any]) -> dict[str, tuple[str, Kind[Any], str]]:
    found = {}
    for field in dataclasses.fields(cls):
        spec: _Member = field.metadata["member"]
        name = spec.name or field.name
        found[name.lower()] = (field.name, spec.kind, name)
    return found


def decode_as(kind: Kind[T], value: Any) -> T:
    """The whole of a decoded document as `kind`. Raises ValueError with Go's text; null is the zero value."""
    if value is None:
        return kind.zero
    at = Cursor()
    result = kind.read(value, at)
    if at.first is not None:
        raise at.first
    return kind.zero if result is None else result
