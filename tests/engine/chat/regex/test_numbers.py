"""Ranges and multiples of numbers as terminals."""

from __future__ import annotations

import json
import math
import random
from decimal import Decimal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chat.regex.numbers import Bound, integer, multiples, number
from engine.chat.schema.reader import UnusableSchema
from tests.engine.chat.grammars import allows, allows_value, matcher_of, schema_matcher, written_at_random

SMALL = st.integers(-3000, 3000)
WHOLE = st.none() | SMALL | st.integers(-(2**70), 2**70)
ENDS = st.none() | st.builds(
    Bound,
    st.decimals(-2000, 2000, places=3) | st.sampled_from([Decimal(0), Decimal("1e20"), Decimal("-3.4028234e38")]),
    st.booleans(),
)


def within(value: Decimal, low: Bound | None, high: Bound | None) -> bool:
    above = low is None or value > low.value or (value == low.value and not low.open)
    return above and (high is None or value < high.value or (value == high.value and not high.open))


@settings(max_examples=60)
@given(low=WHOLE, high=WHOLE, others=st.lists(SMALL | st.integers(-(2**70), 2**70), max_size=20))
def test_integers_in_a_range(low: int | None, high: int | None, others: list[int]) -> None:
    expression = integer(low, high)
    if low is not None and high is not None and low > high:
        assert expression is None
        return
    assert expression is not None
    matcher = matcher_of(f"start: /{expression}/")
    ends = [end + step for end in (low, high) if end is not None for step in (-1, 0, 1)]
    least = low if low is not None else min(-(2**63), 0 if high is None else high - 1)
    most = high if high is not None else max(2**63 - 1, least + 1)
    for value in [*ends, *others, least, most, least - 1, most + 1]:
        assert allows(matcher, str(value)) is (least <= value <= most), value


@settings(max_examples=60)
@given(low=ENDS, high=ENDS, values=st.lists(st.decimals(-2100, 2100, places=4), max_size=20))
def test_numbers_in_a_range(low: Bound | None, high: Bound | None, values: list[Decimal]) -> None:
    expression = number(low, high)
    if expression is None:
        assert not any(within(value, low, high) for value in values)
        return
    matcher = matcher_of(f"start: V\nV: {expression}")
    ends = [end.value for end in (low, high) if end is not None and abs(end.value) < 10**9]
    for value in [*ends, *values]:
        text = f"{value:f}"
        if not text.startswith("-0") or value:
            assert allows(matcher, text) is within(value, low, high), text


@pytest.mark.parametrize(("text", "good"), [("6.02e23", True), ("1E-7", True), ("-0.5", True), ("3E8613", False)])
def test_numbers_are_finite(text: str, good: bool) -> None:
    assert allows(matcher_of(f"start: V\nV: {number(None, None)}"), text) is good


@pytest.mark.parametrize("digits", [18, 19, 300])
def test_numbers_have_an_end(digits: int) -> None:
    for expression in (number(None, None), number(Bound(Decimal("-1.7976931348623157e308")), None)):
        assert allows(matcher_of(f"start: V\nV: {expression}"), "9" * digits) is (digits == 18)


def test_what_float32_holds_is_kept_by_the_exponent() -> None:
    most = Decimal("3.4028234663852886e38")
    matcher = matcher_of(f"start: V\nV: {number(Bound(-most), Bound(most))}")
    assert allows(matcher, "1.5e19")
    assert not allows(matcher, "1e39")


@pytest.mark.parametrize("step", ["1", "2", "5", "10", "100", "0.01", "0.5", "0.25", "0.0000001"])
def test_steps(step: str) -> None:
    expression = multiples(Decimal(step), None, None, whole=False)
    matcher = matcher_of(f"start: V\nV: ({number(None, None)}) & ({expression})")
    for text in ["0", "1", "2", "5", "10", "15", "100", "250", "1.5", "1.25", "0.01", "3.141", "-5", "-0.25", "7.0"]:
        assert allows(matcher, text) is (Decimal(text) % Decimal(step) == 0), text


def test_few_steps_are_listed() -> None:
    expression = multiples(Decimal(7), Bound(Decimal(0), True), Bound(Decimal(21)), whole=True)
    matcher = matcher_of(f"start: V\nV: {expression}")
    assert [text for text in map(str, range(-7, 30)) if allows(matcher, text)] == ["7", "14", "21"]
    assert multiples(Decimal(7), None, None, whole=True) is None


EXTREMES: list[dict[str, float]] = [
    {"exclusiveMinimum": 0, "exclusiveMaximum": 1e-31},
    {"minimum": 5e-324, "maximum": 1e-300},
    {"minimum": 1e-40, "maximum": 1e-40},
    {"minimum": 1e-31, "maximum": 1e-30},
    {"minimum": 1.5e300, "maximum": 1.5e300},
    {"exclusiveMinimum": 1e-5, "exclusiveMaximum": 1.0000000001e-5},
    {"minimum": 1, "exclusiveMaximum": 1.0000000000000002},
    {"exclusiveMinimum": 1, "maximum": 1.0000000000000002},
    {"exclusiveMinimum": 0.3, "exclusiveMaximum": 0.30000000000000016},
    {"exclusiveMinimum": 2**53 + 1, "exclusiveMaximum": 2**53 + 11},
    *(
        {f"{'exclusiveM' if open_ else 'm'}{end}": sign * size}
        for open_ in (False, True)
        for end in ("inimum", "aximum")
        for sign in (1, -1)
        for size in (5e-324, 1e-300, 1e-31, 1e-16, 1e-5, 1, 1e15, 2**53 + 1, 1e18, 1e19, 1e23, 10**23, 1e38, 1e300)
    ),
    *(
        {f"{'exclusiveM' if open_ else 'm'}inimum": low, f"{'exclusiveM' if open_ else 'm'}aximum": high}
        for open_ in (False, True)
        for low, high in [
            (-1e-31, 0),
            (-1e-31, 1e-31),
            (-1e300, -1e299),
            (-1e300, 1e300),
            (1e-300, 1e300),
            (1e-31, 1),
            (-1e38, 1e-31),
            (1e19, 2e19),
            (9e18, 1e20),
            (0, 1),
            (-1e38, 5),
        ]
    ),
]


@pytest.mark.parametrize("type_", ["number", "integer"])
@pytest.mark.parametrize("bounds", EXTREMES, ids=str)
def test_extreme_bounds_are_held_to_as_float64(bounds: dict[str, float], type_: str) -> None:
    schema = {"type": type_, **bounds}
    try:
        matcher = schema_matcher(schema)
    except UnusableSchema:  # no whole number is there
        low, high = (next((v for k, v in bounds.items() if end in k), None) for end in ("inimum", "aximum"))
        assert type_ == "integer"
        assert low is not None
        assert high is not None
        assert high - low <= 1
        return
    chance = random.Random(7)
    texts = [written_at_random(matcher, chance) for _ in range(12)]
    for text in texts:
        assert text is not None, schema
        assert len(text) <= 60
        value = json.loads(text)
        assert math.isfinite(value)
        jsonschema.validate(value, schema)


def test_a_range_without_a_float64_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    schema = {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.0000000000000002}
    assert allows_value(schema, 2)
    assert "no float64" in caplog.text


def test_integers_between_bounds_that_float64_cannot_tell_apart() -> None:
    low = 10**30
    matcher = schema_matcher({"type": "integer", "minimum": low + 1, "maximum": low + 5})
    for value, fits in ((low, False), (low + 1, True), (low + 5, True), (low + 6, False), (6 * 10**81, False)):
        assert allows(matcher, str(value)) is fits
    assert not allows(matcher, "6e81")


def test_steps_beyond_all_digits_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    schema = {"type": "number", "minimum": 1e30, "multipleOf": 7}
    assert allows(schema_matcher(schema), "7e30")
    assert "multipleOf" in caplog.text


def test_steps_of_large_integers_are_held_to() -> None:
    matcher = schema_matcher({"type": "integer", "minimum": 10**19, "maximum": 10**20, "multipleOf": 5})
    assert allows(matcher, str(10**19 + 5))
    assert not allows(matcher, str(10**19 + 6))
