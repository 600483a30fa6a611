"""Base64 as Go reads it; the expected texts come from Go itself."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.base64_text import decode_base64


@given(st.binary(), st.integers(0, 3))
def test_decode_base64_round_trip(data: bytes, breaks: int) -> None:
    text = base64.b64encode(data).decode()
    for _ in range(breaks):
        text = f"{text[: len(text) // 2]}\r\n{text[len(text) // 2 :]}"
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("!!!", 0),
        ("data:image/png;base64,AAAA", 4),
        ("QQ", 0),
        ("QQ=", 3),
        ("QUJDQ", 4),
        ("QQ==x", 4),
        ("AA=A", 2),
        ("A===", 1),
        ("QUJD=", 4),
        ("QUJD====", 4),
        ("QUJD\n=", 5),
        ("QUJ\nD!", 5),
        ("é", 0),
    ],
)
def test_decode_base64_errors(text: str, at: int) -> None:
    with pytest.raises(ValueError, match=f"^illegal base64 data at input byte {at}$"):
        decode_base64(text)
