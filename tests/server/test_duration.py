"""Durations as Go reads them; the expected texts come from Go itself."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.duration import parse_duration


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
    assert parse_duration(text) == pytest.approx(seconds)


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
        parse_duration(text)


@given(st.text())
def test_parse_duration_fails_only_as_documented(text: str) -> None:
    try:
        outcome = f"time: {parse_duration(text)}"
    except ValueError as error:
        outcome = str(error)
    assert outcome.startswith("time: ")
