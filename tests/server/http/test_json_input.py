"""Bodies as Go's decoder takes them, and answers as its encoder writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http import json_input
from server.http.json_input import MAX_DEPTH, MAX_KEYS, JSONReader

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
    (b"[1,]", "invalid character ']' looking for beginning of value"),
    (b"[1 2]", "invalid character '2' after array element"),
    (b"NaN", "invalid character 'N' looking for beginning of value"),
    (rb'"\x"', "invalid character 'x' in string escape code"),
    (rb'"\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "exceeded max depth"),
    (b"[" * 1_000_000, "exceeded max depth"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "exceeded max depth"),
]


@pytest.mark.parametrize(("body", "message"), ERRORS, ids=lambda value: repr(value)[:40])
def test_error_texts(body: bytes, message: str) -> None:
    with pytest.raises(json_input.JSONError) as caught:
        read(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "body", [b'{"a":"x\ny"}', b'{"a":tru}', b'{"a":nul!}', b"[01]", b"[1.]", b"[1e]", b"[-]", b'{"a":-Infinity}']
)
def test_errors_whose_rest_is_our_own(body: bytes) -> None:
    with pytest.raises(json_input.JSONError, match=r"^invalid character '"):
        read(body)


@pytest.mark.parametrize("body", [b"", b"  \r\n\t "])
def test_empty(body: bytes) -> None:
    with pytest.raises(json_input.EmptyBody):
        read(body)


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
    assert read(body) == value


def read(body: bytes, piece: int = 1 << 20) -> Any:
    """The value of a body that arrives in pieces of this many bytes."""
    reader = JSONReader(64 << 20)
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader.value()


def test_objects_keep_their_order() -> None:
    assert list(read(b'{"b":1,"a":2,"b":3}').items()) == [("b", 3), ("a", 2)]


def test_numbers_beyond_the_range_keep_how_they_were_written() -> None:
    with pytest.raises(json_input.OutOfRange) as caught:
        read(b"[1.50,1e400," + b"9" * 5000 + b",7]")
    value = caught.value.value
    assert value[1].literal == "1e400"
    assert value[2].literal == "9" * 5000
    assert (value[0], value[3]) == (1.5, 7)


@pytest.mark.parametrize("width", [1, 60, 600], ids=["small", "4 MiB", "40 MiB"])
@pytest.mark.parametrize("nested", [False, True], ids=["one object", "in objects"])
def test_keys_are_counted(width: int, nested: bool) -> None:
    def body(count: int) -> bytes:
        keys = [b'"%d":"%b"' % (number, b":" * width) for number in range(count - 2 * nested)]
        if not nested:
            return b"{%b}" % b",".join(keys)
        return b'{"a":{%b},"b":{%b}}' % (b",".join(keys[::2]), b",".join(keys[1::2]))

    assert read(body(MAX_KEYS)) == json.loads(body(MAX_KEYS))
    for rest in (b"", b"!"):
        with pytest.raises(json_input.JSONError) as caught:
            read(body(MAX_KEYS + 1)[:-1] + rest)
        assert str(caught.value) == f"request body too complex: at most {MAX_KEYS} keys of objects are accepted"


def test_equal_keys_are_counted() -> None:
    with pytest.raises(json_input.JSONError, match=r"keys of objects are accepted$"):
        read(b"{" + b'"":0,' * MAX_KEYS + b'"":0}')


def test_many_numbers_are_no_keys() -> None:
    assert read(b'{"context":[' + b"0," * 900_000 + b"0]}") == {"context": [0] * 900_001}


def test_long_conversations_and_many_tools_are_accepted() -> None:
    call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"path": "a", "text": "b"}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    parameter = {"type": "string", "description": "d", "enum": ["a"]}
    parameters = {"type": "object", "properties": {f"p{n}": parameter for n in range(100)}, "required": ["p0"]}
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}
    for value in ({"messages": [message] * 4096}, {"tools": [tool] * 128}):
        assert read(json.dumps(value).encode()) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_decode_reads_all_json(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")
    assert read(body) == value


def complaint(body: bytes) -> str | None:
    """What the decoder says about a body, None if it takes it."""
    try:
        read(body)
    except json_input.JSONError as error:
        return str(error)
    except json_input.OutOfRange:
        pass
    return None


@given(json_values, st.data())
def test_broken_json_is_always_explained(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    text = complaint(bytes(body))
    assert text is None or text in ("EOF", "unexpected EOF") or text.startswith("invalid character '")
    assert (text == "EOF") == (not body.strip(b" \t\r\n"))


@given(st.binary())
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    assert complaint(body) != ""
