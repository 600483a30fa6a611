"""Bodies as Go's decoder takes them, and answers as its encoder writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import gojson
from server.gosyntax import MAX_DEPTH, find_error

ERRORS = [
    (b"{", "unexpected EOF"),
    (b'{"model":', "unexpected EOF"),
    (b'"abc', "unexpected EOF"),
    (b"tr", "unexpected EOF"),
    (b"hello", "invalid character 'h' looking for beginning of value"),
    (b"<xml>", "invalid character '<' looking for beginning of value"),
    (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
    (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
    (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b'{"a":"x\ny"}', r"invalid character '\n' in string literal"),
    (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
    (b'{"a":nul!}', "invalid character '!' in literal null (expecting 'l')"),
    (b"[1,]", "invalid character ']' looking for beginning of value"),
    (b"[1 2]", "invalid character '2' after array element"),
    (b"[01]", "invalid character '1' after array element"),
    (b"[1.]", "invalid character ']' after decimal point in numeric literal"),
    (b"[1e]", "invalid character ']' in exponent of numeric literal"),
    (b"[-]", "invalid character ']' in numeric literal"),
    (b"NaN", "invalid character 'N' looking for beginning of value"),
    (b'{"a":-Infinity}', "invalid character 'I' in numeric literal"),
    (rb'"\x"', "invalid character 'x' in string escape code"),
    (rb'"\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "exceeded max depth"),
    (b"[" * 1_000_000, "exceeded max depth"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "exceeded max depth"),
]


@pytest.mark.parametrize(("body", "message"), ERRORS, ids=lambda value: repr(value)[:40])
def test_error_texts(body: bytes, message: str) -> None:
    with pytest.raises(gojson.JSONError) as caught:
        gojson.decode(body)
    assert str(caught.value) == message


@pytest.mark.parametrize("body", [b"", b"  \r\n\t "])
def test_empty(body: bytes) -> None:
    with pytest.raises(gojson.EmptyBody):
        gojson.decode(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"model":"a"} junk', {"model": "a"}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"null", None),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ud800x\udc00"', "\ufffdx\ufffd"),
        (rb'"\\ud800"', r"\ud800"),
        (b'"\xe2\x82 \xff"', "\ufffd\ufffd \ufffd"),
        (b'true "' + b"[" * (MAX_DEPTH + 1), True),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_accepted(body: bytes, value: Any) -> None:
    assert gojson.plain(gojson.decode(body)) == value


def test_pairs_keep_their_order_and_duplicates() -> None:
    assert gojson.decode(b'{"b":1,"a":2,"b":3}') == [("b", 1), ("a", 2), ("b", 3)]


def test_numbers_keep_how_they_were_written() -> None:
    value = gojson.decode(b"[1.50,1e400," + b"9" * 5000 + b",7]")
    assert value[0].literal == "1.50"
    assert value[1].literal == "1e400"
    assert value[2].literal == "9" * 5000
    assert value[3] == 7


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_decode_reads_all_json(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")
    assert gojson.plain(gojson.decode(body)) == value


@given(json_values)
def test_encode_can_be_read_again(value: Any) -> None:
    body = gojson.encode(value)
    assert gojson.plain(gojson.decode(body)) == value


def complaint(body: bytes) -> str | None:
    """What the decoder says about a body, None if it takes it."""
    try:
        gojson.decode(body)
    except gojson.JSONError as error:
        return str(error)
    return None


@given(json_values, st.data())
def test_broken_json_is_always_explained(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    expected = find_error(bytes(body)) if body.strip(b" \t\r\n") else "EOF"
    assert complaint(bytes(body)) == expected


@given(st.binary())
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    assert complaint(body) != ""


def test_encode_escapes_what_go_escapes() -> None:
    assert gojson.encode({"a": "<b>&\u2028é"}) == '{"a":"\\u003cb\\u003e\\u0026\\u2028é"}'.encode()


@given(st.text())
def test_encode_text_never_breaks_a_line(text: str) -> None:
    encoded = gojson.encode_text(text)
    assert json.loads(encoded) == text
    assert len(encoded.decode().splitlines()) == 1


def test_encode_text_survives_a_lone_surrogate() -> None:
    assert json.loads(gojson.encode_text("a\ud800b")) == "a?b"
