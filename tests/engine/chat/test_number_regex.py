"""Ranges of numbers as terminals."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chat.number_regex import Bound, integer, multiples, number
from tests.engine.chat.grammars import allows, matcher_of

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


@settings(max_examples=60, deadline=None)
@given(low=WHOLE, high=WHOLE, others=st.lists(SMALL | st.integers(-(2**70), 2**70), max_size=20))
def test_integers_in_a_range(low: int | None, high: int | None, others: list[int]) -> None:
    found = integer(low, high)
    if low is not None and high is not None and low > high:
        assert found is None
        return
    assert found is not None
    matcher = matcher_of(f"start: /{found}/")
    ends = [end + step for end in (low, high) if end is not None for step in (-1, 0, 1)]
    least = low if low is not None else min(-(2**63), 0 if high is None else high - 1)
    most = high if high is not None else max(2**63 - 1, least + 1)
    for value in [*ends, *others, least, most, least - 1, most + 1]:
        assert allows(matcher, str(value)) is (least <= value <= most), value


@settings(max_examples=60, deadline=None)
@given(low=ENDS, high=ENDS, values=st.lists(st.decimals(-2100, 2100, places=4), max_size=20))
def test_numbers_in_a_range(low: Bound | None, high: Bound | None, values: list[Decimal]) -> None:
    found = number(low, high)
    if found is None:
        assert not any(within(value, low, high) for value in values)
        return
    matcher = matcher_of(f"start: V\nV: {found}")
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
    for found in (number(None, None), number(Bound(Decimal("-1.7976931348623157e308")), None)):
        assert allows(matcher_of(f"start: V\nV: {found}"), "9" * digits) is (digits == 18)


def test_what_float32_holds_is_kept_by_the_exponent() -> None:
    most = Decimal("3.4028234663852886e38")
    matcher = matcher_of(f"start: V\nV: {number(Bound(-most), Bound(most))}")
    assert allows(matcher, "1.5e19")
    assert not allows(matcher, "1e39")


@pytest.mark.parametrize("step", ["1", "2", "5", "10", "100", "0.01", "0.5", "0.25", "0.0000001"])
def test_steps(step: str) -> None:
    found = multiples(Decimal(step), None, None, whole=False)
    matcher = matcher_of(f"start: V\nV: ({number(None, None)}) & ({found})")
    for text in ["0", "1", "2", "5", "10", "15", "100", "250", "1.5", "1.25", "0.01", "3.141", "-5", "-0.25", "7.0"]:
        assert allows(matcher, text) is (Decimal(text) % Decimal(step) == 0), text


def test_few_steps_are_listed() -> None:
    found = multiples(Decimal(7), Bound(Decimal(0), True), Bound(Decimal(21)), whole=True)
    matcher = matcher_of(f"start: V\nV: {found}")
    assert [text for text in map(str, range(-7, 30)) if allows(matcher, text)] == ["7", "14", "21"]
    assert multiples(Decimal(7), None, None, whole=True) is None
