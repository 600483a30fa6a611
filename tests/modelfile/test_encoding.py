"""Text files in any encoding."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.parser import decode

TEXT = "FROM x\nSYSTEM hé 你 👩‍👩‍👧\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_the_byte_order_mark_decides(data: bytes) -> None:
    assert decode(data) == TEXT


def test_what_cannot_be_read_is_replaced() -> None:
    assert decode(b"caf\xe9 x") == "caf\ufffd x"
    assert decode(codecs.BOM_UTF16_LE + "ab".encode("utf-16-le")[:3]) == "a\ufffd"
    assert decode(codecs.BOM_UTF16_LE + b"\x00\xd8a\x00") == "\ufffda"


@given(st.binary(max_size=40))
def test_any_bytes_give_text(data: bytes) -> None:
    decode(data).encode()
