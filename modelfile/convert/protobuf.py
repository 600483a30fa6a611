"""Just enough of the protobuf wire format to read a file of known layout, within its bounds."""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_VARINT = 10  # bytes


class ProtobufError(ValueError):
    """The bytes are no protobuf message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: integers of varints, bytes of everything else. Raises ProtobufError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            length, at = _length(data, at, tag & 7)
            if length > len(data) - at:
                raise ProtobufError("a field is longer than the message")
            value, at = data[at : at + length], at + length
        yield tag >> 3, value


def message(value: int | bytes) -> dict[int, int | bytes]:
    """The fields of a message inside another one, the last of each number. Raises ProtobufError."""
    return dict(fields(content(value)))


def content(value: int | bytes) -> bytes:
    """The bytes of a field. Raises ProtobufError if it is a number."""
    if isinstance(value, int):
        raise ProtobufError("a number where bytes should be")
    return value


def _length(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Length and start of a field that is not a varint."""
    match wire_type:
        case 1:
            return 8, at
        case 5:
            return 4, at
        case 2:
            return _varint(data, at)
    raise ProtobufError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ProtobufError("a number does not end")
