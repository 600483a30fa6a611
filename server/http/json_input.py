"""Decodes JSON bodies in bounded memory and time.

The body is scanned in slices as it arrives. Depth, number of values and sizes are counted before any object is made, so
a body beyond a bound is refused at once. In bodies of more than 4 MiB, long strings are decoded slice by slice and
replaced by marks: one call that decodes megabytes would block all other threads. The rest is decoded in one call, then
the marks are replaced by their strings.

As in Go's decoder, what follows the first value is ignored, and invalid UTF-8 and lone surrogates become U+FFFD.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from itertools import accumulate
from typing import Any

import msgspec

from modelfile.text import quote
from registry.blob_json import without_lone_surrogates
from server.http.errors import BodyTooLarge

MAX_DEPTH = 64
MAX_VALUES = 1 << 20
"""Values in a body, counting keys of objects."""
MAX_CONTAINERS = 1 << 16
"""Objects and lists in a body, which take more memory and time than other values."""
MAX_KEYS = 1 << 16
"""Keys of all objects in a body. An object is made, copied and freed in one call each, which blocks all threads."""
MAX_SHORT = 16 << 20
"""Bytes of a body without its long strings."""
SLICE = 64 << 10
_HEADER = 72  # bytes of a Python string that is not ASCII, beside its characters
_TOO_DEEP = "exceeded max depth"
_SMALL = 2 << 20  # bytes; not enough for more values than are accepted, but for more containers and keys
_AT_ONCE = 4 << 20  # bytes of a body that are decoded in one call
_LONG = 512  # bytes; longer strings behind the first _AT_ONCE bytes are replaced by marks

_DECODER = msgspec.json.Decoder()
_NOT_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP = [1 if byte in b"[{" else -1 for byte in range(256)]
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]..", re.DOTALL)
_POSITION = re.compile(r"\(byte (\d+)\)")
_WORDS = {
    "object keys must be strings": "looking for beginning of object key string",
    "trailing comma in object": "looking for beginning of object key string",
    "trailing comma in array": "looking for beginning of value",
    "expected ',' or '}'": "after object key:value pair",
    "expected ',' or ']'": "after array element",
    "expected ':'": "after object key",
    "invalid number": "in numeric literal",
    "invalid escape character": "in string escape code",
    "in unicode escape": r"in \u hexadecimal character escape",
}
"""Error texts of msgspec, and of Go's scanner."""


class JSONError(ValueError):
    """The body is not JSON, or beyond a bound; `str()` is the text for the client."""


class EmptyBody(JSONError):
    """The body has no JSON value."""

    def __init__(self) -> None:
        super().__init__("EOF")


class OutOfRange(ValueError):
    """A number is beyond the range of a float64. `value` is the body with an `Infinite` in its place."""

    def __init__(self, value: Any) -> None:
        super().__init__("number out of range")
        self.value = value


class Infinite(float):
    """A number beyond the range of a float64; `literal` is its text."""

    literal: str

    def __new__(cls, literal: str) -> Infinite:
        self = super().__new__(cls, "-inf" if literal.startswith("-") else "inf")
        self.literal = literal
        return self


class JSONReader:
    """Decodes one body of at most `limit` bytes: feed it as it arrives, then call `value` once."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._rest = bytearray()  # not yet scanned
        self._short = bytearray()  # scanned, long strings replaced by marks
        self._mark = b""  # stands for a long string, followed by its number
        self._texts: list[str] = []  # the long strings, by number
        self._inside = 0  # 1 within a string
        self._depth = self._values = self._containers = self._keys = 0
        self._taken = self._joined = 0  # bytes of the long strings, and of those already joined

    def feed(self, data: bytes) -> None:
        """Scan a piece of the body. Raises BodyTooLarge or JSONError."""
        self.size += len(data)
        if self.size > self._limit:
            raise BodyTooLarge(self._limit)
        view = memoryview(data)
        for start in range(0, len(data), SLICE):
            self._rest += view[start : start + SLICE]
            if self.size > _SMALL:
                self._scan_slices()

    def value(self) -> Any:
        """The first JSON value of the body. Call it once. Raises EmptyBody, JSONError or OutOfRange."""
        rest = self._rest
        opened = rest.count(b"[") + rest.count(b"{")
        if not self._short and opened <= MAX_CONTAINERS and rest.count(b":") <= MAX_KEYS:
            self._rest = bytearray()
            return _decode_small(bytes(rest), opened)
        self._scan_slices()
        rest, self._rest = self._rest, bytearray()
        self._scan(bytes(rest))
        short, self._short = self._short, bytearray()
        if not self._texts:
            return decode(short)
        try:
            return self._filled(decode(short))
        except OutOfRange as error:
            raise OutOfRange(self._filled(error.value)) from None

    def _scan_slices(self) -> None:
        """Scan all but the last piece of what has arrived."""
        while len(self._rest) >= SLICE:
            piece = bytes(self._rest[:SLICE])
            end = _cut(piece)
            del self._rest[:end]
            self._scan(piece[:end])

    def _scan(self, data: bytes) -> None:
        """Count the values of a slice, and keep the slice."""
        bare = data.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in data else data
        parts = bare.split(b'"')
        self._count(b"".join(parts[self._inside :: 2]))
        if self.size > _AT_ONCE and max(map(len, parts[1 - self._inside :: 2]), default=0) >= _LONG:
            self._take_out(data, parts)
        else:
            self._short += data
        self._inside ^= (len(parts) - 1) & 1
        if len(self._short) > MAX_SHORT:
            raise JSONError(f"request body too complex: at most {MAX_SHORT} bytes beside long texts are accepted")

    def _count(self, outside: bytes) -> None:
        """Check the bounds. `outside` is the slice without its strings."""
        opened = outside.count(b"[") + outside.count(b"{")
        self._containers += opened
        keys = outside.count(b":")
        self._keys += keys
        self._values += opened + outside.count(b",") + keys
        if self._depth + opened > MAX_DEPTH:
            depths = accumulate(map(_STEP.__getitem__, outside.translate(None, _NOT_BRACKET)), initial=self._depth)
            if max(depths) > MAX_DEPTH:
                raise JSONError(_TOO_DEEP)
        self._depth += opened - outside.count(b"]") - outside.count(b"}")
        if self._values > MAX_VALUES:
            raise JSONError(f"request body too complex: at most {MAX_VALUES} values are accepted")
        if self._containers > MAX_CONTAINERS:
            raise JSONError(f"request body too complex: at most {MAX_CONTAINERS} objects and lists are accepted")
        if self._keys > MAX_KEYS:
            raise JSONError(f"request body too complex: at most {MAX_KEYS} keys of objects are accepted")

    def _take_out(self, data: bytes, parts: list[bytes]) -> None:
        """Keep a slice with marks for its long strings. `parts` is the slice with escapes blanked, split at quotes."""
        self._mark = self._mark or secrets.token_hex(16).encode()
        at = 0
        for number, part in enumerate(parts):
            segment = data[at : at + len(part)]
            at += len(part) + 1
            if number:
                self._short += b'"'
            if (number + self._inside) & 1 and len(part) >= _LONG:
                self._short += b"%b%d;" % (self._mark, len(self._texts))
                self._add_text(decode(b'"%b"' % segment))
            else:
                self._short += segment

    def _add_text(self, text: str) -> None:
        self._texts.append(text)
        self._taken += text.__sizeof__()
        if self._taken > self._limit + (self._limit >> 3):
            raise self._too_wide()

    def _too_wide(self) -> JSONError:
        return JSONError(f"request body too large: its texts take more than {self._limit} bytes of memory")

    def _filled(self, value: Any) -> Any:
        """`value` with marks replaced by their strings; lists and objects are changed in place."""
        mark = self._mark.decode()

        def filled(value: Any) -> Any:
            if isinstance(value, str):
                return self._text(value.split(mark)) if mark in value else value
            if isinstance(value, list):
                value[:] = map(filled, value)
            elif isinstance(value, dict):
                for key, item in value.items():
                    value[key] = filled(item)
                if any(mark in key for key in value):
                    return {filled(key): item for key, item in value.items()}
            return value

        return filled(value)

    def _text(self, pieces: list[str]) -> str:
        """The string of alternating text and marks. Its widest character decides its bytes per character."""
        whole = pieces[:1]
        for piece in pieces[1:]:
            number, _, short = piece.partition(";")
            whole += (self._texts[int(number)], short)
            self._texts[int(number)] = ""
        self._joined += sum(map(len, whole)) * max(map(_width, whole))
        if self._joined > self._limit:
            raise self._too_wide()
        return "".join(whole)


def _width(text: str) -> int:
    """Bytes per character of a Python string."""
    return 1 if text.isascii() else round((text.__sizeof__() - _HEADER) / (len(text) + 1))


def _cut(data: bytes) -> int:
    """Where to end a slice: not within a character, an escape or a surrogate pair."""
    end = len(data)
    at = data.rfind(b"\\", end - 6)
    if at >= 0 and _starts_escape(data, at) and (at + 1 == end or data[at + 1] == ord("u")):
        end = at
    if _HIGH_SURROGATE.fullmatch(data, end - 6, end) and _starts_escape(data, end - 6):
        end -= 6
    for back in (1, 2, 3):
        byte = data[end - back]
        if byte >= 0xC0:  # it begins a character of two, three or four bytes
            return end - back if back < 2 + (byte >= 0xE0) + (byte >= 0xF0) else end
        if byte < 0x80:
            break
    return end


def _starts_escape(data: bytes, at: int) -> bool:
    """Whether the backslash at this place is not escaped itself."""
    upto = data[: at + 1]
    return (len(upto) - len(upto.rstrip(b"\\"))) % 2 == 1


def _decode_small(data: bytes, opened: int) -> Any:
    """Decode a small body that breaks no bound but, maybe, that of depth: cheaper than a scan."""
    try:
        value = decode(data)
    except RecursionError:
        raise JSONError(_TOO_DEEP) from None
    if opened > MAX_DEPTH and _deeper(value):
        raise JSONError(_TOO_DEEP)
    return value


def _deeper(value: Any) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def decode(data: bytes | bytearray) -> Any:
    """The first JSON value of `data`. Raises EmptyBody, JSONError or OutOfRange."""
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError:
        raise OutOfRange(_decode_beyond_range(_repaired(data))) from None
    except msgspec.DecodeError as error:
        problem = str(error)
    position = _POSITION.search(problem)
    if "trailing characters" in problem and position is not None and 0 < int(position[1]) <= len(data):
        return decode(data[: int(position[1]) - 1])
    if (repaired := _repaired(data)) != data:
        return decode(repaired)
    if not data.strip(b" \t\r\n"):
        raise EmptyBody
    raise JSONError("unexpected EOF" if position is None else _explain(problem, data, int(position[1])))


def _explain(problem: str, data: bytes | bytearray, at: int) -> str:
    place = next((words for key, words in _WORDS.items() if key in problem), "looking for beginning of value")
    at -= "escape" in problem  # there msgspec gives the position after the character
    return _invalid(chr(data[min(at, len(data) - 1)]), place)


def _invalid(character: str, place: str = "looking for beginning of value") -> str:
    shown = quote(character, "'")
    return f"invalid character {shown} {place}"


def _repaired(data: bytes | bytearray) -> bytes | bytearray:
    """The data with U+FFFD for each byte that is no UTF-8 and each lone surrogate."""
    text = data.decode("utf-8", "surrogateescape")
    if not text.isascii():
        data = re.sub("[\ud800-\udfff]", "\ufffd", text).encode()
    return without_lone_surrogates(bytes(data)) if rb"\u" in data else data


def _decode_beyond_range(data: bytes | bytearray) -> Any:
    text = data.decode().lstrip(" \t\r\n")
    try:
        return _LENIENT.raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise JSONError("unexpected EOF") from None
        raise JSONError(_invalid(text[error.pos])) from None


def _number(literal: str) -> float | int:
    if literal.lstrip("-").isdigit() and len(literal) <= 300:
        return int(literal)
    value = float(literal)
    return Infinite(literal) if math.isinf(value) else value


def _refuse(constant: str) -> None:
    raise json.JSONDecodeError("constant", constant, 0)  # NaN and Infinity are Python's, not JSON's


_LENIENT = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse)
