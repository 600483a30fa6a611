"""JSON as Go writes it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.encoding import EncodingError, print_as_json, print_as_object, to_json
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget
from modelfile.gotemplate.strings import from_bytes
from modelfile.gotemplate.values import ANY_MAP, COMPLEX128, INT, STRING, UINT8, SliceType, Value, value_of

json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def encoded(data: Any) -> str:
    return to_json(value_of(data), Budget(DEFAULT_LIMITS))


@given(json_values)
def test_it_can_be_read_again(data: Any) -> None:
    assert json.loads(encoded(data), parse_int=float) == data


@given(st.dictionaries(st.text(), st.none()))
def test_keys_are_sorted(data: dict[str, None]) -> None:
    assert list(json.loads(encoded(data))) == sorted(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<a>&\u2028\u2029", r'"\u003ca\u003e\u0026\u2028\u2029"'),
        ('\x01\b\f\n\r\t"\\\x7f', r'"\u0001\b\f\n\r\t\"\\' + '\x7f"'),
        (from_bytes(b"a\xff"), r'"a\ufffd"'),
        ({"<": [1, 1.5, 1e21, None, True]}, r'{"\u003c":[1,1.5,1e+21,null,true]}'),
        (Value(INT, 2**62), str(2**62)),
        (Value(SliceType("[]byte", UINT8), b"ABC"), '"QUJD"'),
        (Value(SliceType("[]string", STRING), None), "null"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_texts(data: Any, text: str) -> None:
    assert encoded(data) == text


@pytest.mark.parametrize("data", [math.nan, {"a": [math.inf]}, Value(COMPLEX128, 1j)])
def test_what_json_has_no_words_for(data: Any) -> None:
    with pytest.raises(EncodingError):
        encoded(data)
    assert print_as_json(value_of(data), Budget(DEFAULT_LIMITS)).data == ""


def test_a_nil_map_prints_as_an_empty_object() -> None:
    assert print_as_object(Value(ANY_MAP, None), Budget(DEFAULT_LIMITS)).data == "{}"
    assert print_as_json(Value(ANY_MAP, None), Budget(DEFAULT_LIMITS)).data == "null"
