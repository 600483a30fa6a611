"""`print`, `println`, `printf`: what the recorded answers of Go leave out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.errors import TemplateLimitError
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer
from modelfile.gotemplate.printf import print_format, print_line, print_values
from modelfile.gotemplate.values import INT, NO_VALUE, Value, value_of
from tests.modelfile.gotemplate.test_encoding import json_values

layouts = st.lists(st.sampled_from([*"%%%%%%vdsqxXtTfegcUbowp#0+- .*[]123 aé"]), max_size=20).map("".join)
arguments = st.lists(
    json_values.map(value_of) | st.integers(-(2**63), 2**63 - 1).map(lambda n: Value(INT, n)), max_size=4
)


def formatted(layout: str, *values: Value) -> str:
    buffer = Buffer(Budget(DEFAULT_LIMITS))
    print_format(layout, values, buffer)
    return buffer.text()


@given(layouts, arguments)
def test_no_layout_breaks_it(layout: str, values: list[Value]) -> None:
    formatted(layout, *values)


@given(st.text().filter(lambda text: "%" not in text))
def test_text_is_copied(text: str) -> None:
    assert formatted(text) == text
    assert formatted("%s", value_of(text)) == text
    assert formatted(text.replace("a", "%%")) == text.replace("a", "%")


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40), st.sampled_from(["", "-", "0", "+", "+0", " "]))
def test_integers_like_c(number: int, width: int, flags: str) -> None:
    layout = f"%{flags}{width or ''}d"
    assert formatted(layout, Value(INT, number)) == layout % number


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 20), st.sampled_from("feEgG"))
def test_floats_like_c(number: float, precision: int, verb: str) -> None:
    layout = f"%+30.{precision}{verb}"
    assert formatted(layout, value_of(number)) == layout % number


def test_spaces() -> None:
    values = [value_of(1), NO_VALUE, value_of("a"), value_of(2), value_of("b"), value_of(True), value_of(None)]
    buffer = Buffer(Budget(DEFAULT_LIMITS))
    print_values(values, buffer)
    print_line(values[:3], buffer)
    assert buffer.text() == "1 <nil>a2btrue <nil>1 <nil> a\n"


@pytest.mark.parametrize("layout", ["%9999999d", "%1000000d" * 9, "%.9999999f"])
def test_widths_have_an_end(layout: str) -> None:
    number = value_of(1.5) if "f" in layout else Value(INT, 1)
    with pytest.raises(TemplateLimitError):
        formatted(layout, *[number] * 9)
