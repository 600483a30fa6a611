"""The wire format within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.convert.sentencepiece import ProtobufError, protobuf_bytes, protobuf_fields, protobuf_message


def test_every_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x02hi" + b"\x25\x01\x02\x03\x04"
    assert list(protobuf_fields(data)) == [(1, 150), (2, bytes(8)), (3, b"hi"), (4, b"\x01\x02\x03\x04")]
    assert protobuf_message(b"\x08\x01\x08\x02") == {1: 2}


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x1a\x05hi", b"\x25\x01", b"\x0b", b"\xff" * 11, b"\x1a\xff\xff\xff\xff\x0f"]
)
def test_no_messages(data: bytes) -> None:
    with pytest.raises(ProtobufError):
        list(protobuf_fields(data))


def test_numbers_are_no_bytes() -> None:
    with pytest.raises(ProtobufError):
        protobuf_bytes(5)


@given(st.binary(max_size=30))
def test_any_bytes_are_fields_or_an_error(data: bytes) -> None:
    try:
        found = list(protobuf_fields(data))
    except ProtobufError:
        return
    assert sum(len(value) for _, value in found if isinstance(value, bytes)) <= len(data)
