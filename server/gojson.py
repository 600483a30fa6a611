"""JSON as Go's encoding/json reads and writes it.

Reading: the first value of a body counts and what follows is ignored, objects keep their pairs in the order of the
document (duplicates too), wrong UTF-8 and lone surrogates become U+FFFD. A valid body goes through the C scanner of
the standard library; only a broken one is walked in Python, by `server.gosyntax`, to find Go's words for it.

Writing: compact, `<`, `>`, `&` and the line separators escaped.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import msgspec

from server.gosyntax import MAX_DEPTH, TOO_DEEP, find_error

_LONE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
# U+0085 too: client libraries that split lines as Python does would cut a JSON line there.
_SPECIAL = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]|\xc2\x85")
_REPLACEMENTS = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
    b"\xc2\x85": b"\\u0085",
}
_LONGEST_INT = 300  # digits; Python refuses to convert beyond some thousands, and no field takes more than 19


class JSONError(ValueError):
    """The body is not JSON; `str()` is the text that Go's decoder would give."""


class EmptyBody(JSONError):
    """There is no JSON value at all in the body."""

    def __init__(self) -> None:
        super().__init__("EOF")


class Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, in the order of the document."""


class Float(float):
    """A number that was not written as an integer, or is too long for one. `literal` is how it was written."""

    literal: str

    def __new__(cls, literal: str) -> Float:
        self = super().__new__(cls, literal)
        self.literal = literal
        return self


def decode(data: bytes) -> Any:
    """The first JSON value of `data`, objects as `Object`. Raises EmptyBody or JSONError."""
    text = data.decode("utf-8", "go-replace").lstrip(" \t\r\n")
    if not text:
        raise EmptyBody
    if _LONE.search(data):
        text = _ESCAPE.sub(lambda match: r"\ufffd" if match[1] else match[0], text)
    try:
        value, _ = _DECODER.raw_decode(text)
        if isinstance(value, int | float) and (problem := find_error(data)) is not None:
            raise ValueError(problem)  # of `1.x` Python would take the 1
    except RecursionError:
        raise JSONError(TOO_DEEP) from None
    except ValueError as error:
        raise JSONError(find_error(data) or str(error)) from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise JSONError(TOO_DEEP)
    return value


def plain(value: Any) -> Any:
    """`value` with dicts for objects (the last of equal keys wins) and plain floats."""
    if isinstance(value, Object):
        return {key: plain(item) for key, item in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, Float) else value


def encode(value: Any) -> bytes:
    """Compact JSON of dicts, lists, texts, numbers and `msgspec.Raw`; dicts keep their order."""
    return escape(_ENCODER.encode(value))


def encode_text(text: str) -> bytes:
    """One JSON string, quotes included. Lone surrogates become question marks."""
    try:
        data = _ENCODER.encode(text)
    except UnicodeEncodeError:
        data = _ENCODER.encode(text.encode("utf-8", "replace").decode())
    return escape(data)


def escape(data: bytes) -> bytes:
    """JSON with what browsers or line splitters could misread written as escapes."""
    if _SPECIAL.search(data) is None:
        return data
    return _SPECIAL.sub(lambda match: _REPLACEMENTS[match[0]], data)


def _int(literal: str) -> int | Float:
    return int(literal) if len(literal) < _LONGEST_INT else Float(literal)


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's, not JSON's


def _deeper(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, list) else []
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (([pair[1] for pair in node]) if isinstance(node, Object) else node)
            if isinstance(child, list)
        ]
        if not level:
            return False
    return True


def _one_for_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("go-replace", _one_for_each_byte)
_ENCODER = msgspec.json.Encoder()
_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_float=Float, parse_int=_int, parse_constant=_refuse)
