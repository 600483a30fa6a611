"""Template values as JSON, as Go's encoding/json writes it: compact, sorted maps, structs in field order."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable

from modelfile.gotemplate.limits import Budget, Buffer
from modelfile.gotemplate.values import (
    BOOL,
    FLOAT64,
    INT,
    STRING,
    UINT8,
    MapType,
    SliceType,
    StructType,
    Value,
    string,
    value_of,
)
from registry import blob_json

_STEPS = 4  # cost of a value, in addition to its text
_SPECIAL = re.compile("[<>&\u2028\u2029]")
_NO_CHARACTER = re.compile("[\ud800-\udfff]")


class EncodingError(ValueError):
    """A value without JSON: a complex number, an infinity."""


def to_json(value: Value, budget: Budget) -> str:
    """The JSON text of a value. Raises EncodingError."""
    buffer = Buffer(budget)
    _write(value, buffer)
    return buffer.text()


def print_as_json(value: Value, budget: Budget) -> Value:
    """The `String` method of types that print as JSON; empty if there is no JSON."""
    try:
        return string(to_json(value, budget))
    except EncodingError:
        return string("")


def print_as_object(value: Value, budget: Budget) -> Value:
    """The same for maps; nil prints as an empty map."""
    return string("{}") if value.data is None else print_as_json(value, budget)


def _write(value: Value, buffer: Buffer) -> None:
    buffer.budget.spend(_STEPS)
    value = value.indirect()
    if value.type.simplify is not None:
        value = value_of(value.type.simplify(value.data))
    if value.type in (STRING, BOOL, INT, UINT8, FLOAT64):
        buffer.write(_scalar(value))
    elif value.data is None:
        buffer.write("null")
    elif isinstance(value.type, SliceType) and value.type.element is UINT8:
        buffer.write(f'"{base64.b64encode(value.data).decode()}"')
    else:
        buffer.budget.enter()
        try:
            _write_composite(value, buffer)
        finally:
            buffer.budget.leave()


def _write_composite(value: Value, buffer: Buffer) -> None:
    if isinstance(value.type, SliceType):
        for place, data in enumerate(value.data):
            buffer.write("," if place else "[")
            _write(Value(value.type.element, data), buffer)
        buffer.write("]" if value.data else "[]")
    elif isinstance(value.type, MapType):
        keys = value.type.keys(value.data, buffer.budget)
        _write_object(((key, value.element(key)) for key in keys), buffer)
    elif isinstance(value.type, StructType):
        fields = ((member, member.of(value.data)) for member in value.type.members)
        _write_object(((m.key or m.name, inner) for m, inner in fields if not (m.omit_empty and inner.empty)), buffer)
    else:
        raise EncodingError(f"json: unsupported type: {value.type.name}")


def _write_object(members: Iterable[tuple[str, Value]], buffer: Buffer) -> None:
    buffer.write("{")
    for place, (key, value) in enumerate(members):
        buffer.write("," if place else "")
        buffer.write(_string(key) + ":")
        _write(value, buffer)
    buffer.write("}")


def _scalar(value: Value) -> str:
    if value.type is STRING:
        return _string(value.data)
    if value.type is not FLOAT64:
        return json.dumps(value.data)
    if not math.isfinite(value.data):
        raise EncodingError(f"json: unsupported value: {value.data}")
    return blob_json.number(value.data)


def _string(text: str) -> str:
    """A JSON string, with HTML characters and JavaScript line breaks escaped, as Go does."""
    encoded = _NO_CHARACTER.sub(r"\\ufffd", json.dumps(text, ensure_ascii=False))
    if _SPECIAL.search(encoded) is not None:
        for special in "<>&\u2028\u2029":
            encoded = encoded.replace(special, f"\\u{ord(special):04x}")
    return encoded
