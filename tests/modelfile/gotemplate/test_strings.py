"""Go strings: bytes behind text."""

from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate import strings


@given(st.binary())
def test_bytes_survive(data: bytes) -> None:
    text = strings.from_bytes(data)
    assert strings.to_bytes(text) == data
    assert strings.byte_length(text) == len(data)
    assert strings.printable(text) == data.decode("utf-8", "replace")


@given(st.text(st.characters()))
def test_any_text_has_bytes(text: str) -> None:
    strings.to_bytes(text).decode("utf-8", "surrogateescape")
    strings.printable(text).encode()


def test_surrogates_that_are_no_bytes_are_replaced() -> None:
    assert strings.to_bytes("a\ud800b") == "a\ufffdb".encode()


def test_halves_of_a_character_meet() -> None:
    halves = [strings.from_bytes(b"\xc3"), strings.from_bytes(b"\xa9")]
    assert strings.joined(halves) == "é"
    assert strings.printable(halves[0]) == "\ufffd"
