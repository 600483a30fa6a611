"""Answers can be read again, and be split into lines."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.http.json_output import encode, encode_text
from tests.server.http.test_json_input import json_values


@given(json_values)
def test_encode_can_be_read_again(value: Any) -> None:
    assert json.loads(encode(value)) == value


def test_encode_escapes_what_would_end_a_line() -> None:
    assert encode({"a": "<b>&\u0085\u2028\u2029é"}) == '{"a":"<b>&\\u0085\\u2028\\u2029é"}'.encode()


@given(st.text())
def test_encode_text_never_breaks_a_line(text: str) -> None:
    encoded = encode_text(text)
    assert json.loads(encoded) == text
    assert len(encoded.decode().splitlines()) == 1


def test_encode_text_survives_a_lone_surrogate() -> None:
    assert json.loads(encode_text("a\ud800b")) == "a?b"
