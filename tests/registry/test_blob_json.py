"""JSON to the byte as a Go program writes it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import blob_json
from registry.names import Digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.6, "0.6"),
        (500000.0, "500000"),
        (0.00001, "0.00001"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-9, "1.5e-9"),
        (-2.5e-10, "-2.5e-10"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (9007199254740993.0, "9007199254740992"),
    ],
)
def test_floats(value: float, text: str) -> None:
    assert blob_json.encode([value, {"x": value}]) == f'[{text},{{"x":{text}}}]'.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back(value: float) -> None:
    text = blob_json.number(value)
    assert json.loads(text, parse_int=float) == value
    assert ("e" in text) == (value != 0 and not 1e-6 <= abs(value) < 1e21)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<a>&b", r"\u003ca\u003e\u0026b"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\b\f\n\r\t\x01\x1f\x7f", "\\b\\f\\n\\r\\t\\u0001\\u001f\x7f"),
        ("é 你好 \u0085", "é 你好 \u0085"),
        ('"\\/', r"\"\\/"),
    ],
)
def test_texts(value: str, text: str) -> None:
    assert blob_json.encode(value) == f'"{text}"'.encode()
    assert blob_json.encode({value: value}) == f'{{"{text}":"{text}"}}'.encode()


def test_it_is_compact_and_keeps_the_order() -> None:
    assert blob_json.encode({"b": [1, None, True, ()], "a": {"c": 2.0}}) == b'{"b":[1,null,true,[]],"a":{"c":2}}'


@given(VALUES)
def test_it_is_json(value: object) -> None:
    data = blob_json.encode(value)
    assert json.loads(data) == value
    assert not set(b"<>&") & set(data)


@pytest.mark.parametrize(
    ("value", "digest"),
    [
        (
            {"stop": ["USER:", "ASSISTANT:"], "temperature": 1, "top_k": 10},
            "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37",
        ),
        (
            {"stop": ["<|endoftext|>"], "temperature": 0.6, "top_k": 10.0, "top_p": 0.7},
            "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35",
        ),
        (
            [
                {"role": "assistant", "content": "What is my purpose?"},
                {"role": "user", "content": "You run tests."},
                {"role": "assistant", "content": "Oh, my god."},
            ],
            "298baeaf6928a60cf666d88d64a1ba606feb43a2865687c39e40652e407bffc4",
        ),
    ],
)
def test_the_digests_of_small_layers(value: object, digest: str) -> None:
    assert Digest.of(blob_json.encode(value) + b"\n").hex == digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"a\uDC00b"', "a\ufffdb"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\\\ud800"', "\\\ufffd"),
        (rb'"\u00e9"', "é"),
    ],
)
def test_half_a_character(text: bytes, expected: str) -> None:
    assert json.loads(blob_json.without_lone_surrogates(text)) == expected
