"""Small values as Go writes them; the expected texts come from Go itself."""

import base64
import math
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import gotext


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("foo:", '"foo:"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("line\nbreak\t\a", r'"line\nbreak\t\a"'),
        ("\x00\x7f", r'"\x00\x7f"'),
        ("日本 é", '"日本 é"'),
        ("\u200b", r'"\u200b"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted


@pytest.mark.parametrize(
    ("byte", "shown"),
    [(ord("h"), "'h'"), (ord("'"), r"'\''"), (ord('"'), "'\"'"), (10, r"'\n'"), (0, r"'\x00'"), (0xEF, "'ï'")],
)
def test_quote_byte(byte: int, shown: str) -> None:
    assert gotext.quote_byte(byte) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (42, "42"),
        (0.9, "0.9"),
        (131072, "131072"),
        (1e6, "1e+06"),
        (1048576, "1.048576e+06"),
        (1e-5, "1e-05"),
        (0.0001, "0.0001"),
        (-1, "-1"),
        (0, "0"),
        (1e100, "1e+100"),
        (math.inf, "+Inf"),
    ],
)
def test_format_number(value: float, shown: str) -> None:
    assert gotext.format_number(value) == shown


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_json_float32_gives_the_same_float32(value: float) -> None:
    shown = gotext.json_float32(value)
    assert struct.pack("<f", float(shown)) == struct.pack("<f", value)
    assert len(shown.lstrip("-").replace(".", "").strip("0").split("e")[0]) <= 9


@pytest.mark.parametrize(
    ("value", "shown"), [(1e300, "1e+300"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (math.inf, "null")]
)
def test_json_float32_of_what_is_none(value: float, shown: str) -> None:
    assert gotext.json_float32(value) == shown


def test_json_float32_is_short() -> None:
    (stored,) = struct.unpack("<f", struct.pack("<f", 1e-6))
    assert gotext.json_float32(stored) == "0.000001"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("+5m", 300),
        ("-1m", -60),
        ("0", 0),
        ("0s", 0),
        ("100ms", 0.1),
        ("1µs", 1e-6),
    ],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert gotext.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1é", r'time: unknown unit "\xc3\xa9" in duration "1\xc3\xa9"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
    ],
)
def test_parse_duration_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gotext.parse_duration(text)


@given(st.text())
def test_parse_duration_fails_only_as_documented(text: str) -> None:
    try:
        outcome = f"time: {gotext.parse_duration(text)}"
    except ValueError as error:
        outcome = str(error)
    assert outcome.startswith("time: ")


@given(st.binary(), st.integers(0, 3))
def test_decode_base64_round_trip(data: bytes, breaks: int) -> None:
    text = base64.b64encode(data).decode()
    for _ in range(breaks):
        text = f"{text[: len(text) // 2]}\r\n{text[len(text) // 2 :]}"
    assert gotext.decode_base64(text) == data


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
        gotext.decode_base64(text)
