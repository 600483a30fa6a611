"""Terminals for JSON numbers between bounds and in steps: finite, and of a length that 64-bit readers take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import floor, inf, nextafter

LONGEST = 18  # digits before the point, and behind it: such numbers fit 64-bit integers and float64
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
_EXPONENT = 289  # 18 digits with this exponent are still a finite float64
_WIDE = 10**19  # numbers beyond such bounds are written with an exponent, not with hundreds of digits
_NARROW = Decimal("1e-15")  # so are numbers below such upper bounds
_LEAST_FRACTION = Decimal(10) ** -LONGEST
_LEAST, _MOST = Decimal("5e-324"), Decimal("1.7976931348623157e308")  # of float64
_EXACT = 2**53  # whole numbers up to this are exact in float64
_STEPS = 2_000  # numbers that may be listed one by one
_LONGEST_STEP = 4  # last digits that decide whether a number is a multiple, at most

_FRACTION = rf"(?:\.[0-9]{{1,{LONGEST}}})?"
_SOME_FRACTION = rf"\.0{{0,{LONGEST - 1}}}[1-9][0-9]{{0,{LONGEST - 1}}}"


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range; `open`: the value itself is not in it."""

    value: Decimal
    open: bool = False


def integer(low: int | None, high: int | None) -> str | None:
    """A regular expression for integers from `low` to `high`; None if there are none.

    A missing bound is that of 64-bit integers.
    """
    low = min(SMALLEST_INTEGER, high - 1 if high is not None else 0) if low is None else low
    high = max(LARGEST_INTEGER, low + 1) if high is None else high
    options = []
    if low < 0:
        options += [f"-{option}" for option in _between(max(-high, 1), -low)]
    if high >= 0:
        options += _between(max(low, 0), high)
    return _either(options) if options else None


def number(low: Bound | None, high: Bound | None) -> str | None:
    """A terminal's expression for numbers between two bounds, also once read as float64; None if there are none."""
    if low is not None and high is not None and _is_above(low, high):
        return None
    if low is None or high is None or low.value != high.value:
        low, high = _as_read(low, inf), _as_read(high, -inf)
    options = []
    if high is None or high.value > 0 or (high.value == 0 and not high.open):
        least = low if low is not None and low.value >= 0 else Bound(Decimal(0))
        options += _positive(least, high)
    if low is None or low.value < 0:
        least = _negative(high) if high is not None and high.value < 0 else Bound(Decimal(0), True)
        options += [f'("-" {option})' for option in _positive(least, None if low is None else _negative(low))]
    return f"({' | '.join(options)})" if options else None


def needs_exponent(low: Bound | None, high: Bound | None) -> bool:
    """Whether all numbers between two bounds, zero aside, are written with an exponent."""
    if low is not None and (low.value >= _WIDE or (-_NARROW < low.value < 0 and high is not None and high.value <= 0)):
        return True
    return high is not None and (
        high.value <= -_WIDE or (0 < high.value < _NARROW and low is not None and low.value > -_NARROW)
    )


def _as_read(bound: Bound | None, inwards: float) -> Bound | None:
    """The nearest closed bound that float64 can hold, moved `inwards` if need be; zero stays."""
    if bound is None or bound.value == 0:
        return bound
    near = float(bound.value)
    while True:
        value = Decimal(repr(near))
        read = {value} if abs(value) <= _EXACT else {value, Decimal(near)}  # readers differ for large ones
        if all(_is_within(number_read, bound, inwards) for number_read in read):
            return Bound(value)
        near = nextafter(near, inwards)


def _is_within(value: Decimal, bound: Bound, inwards: float) -> bool:
    return not bound.open if value == bound.value else (value > bound.value) is (inwards > 0)


def _negative(bound: Bound) -> Bound:
    return Bound(bound.value.copy_negate(), bound.open)


def multiples(step: Decimal, low: Bound | None, high: Bound | None, *, whole: bool) -> str | None:
    """A terminal's expression for multiples of `step`, to be intersected with their range.

    `whole`: integers only. None if no expression can say it.
    """
    places = max(-int(step.normalize().as_tuple().exponent), 0)
    unit = int(step.scaleb(places))  # step == unit / 10**places
    values = _listed(step, low, high)
    if values is not None:
        texts = sorted({_written(value) for value in values if not whole or value == value.to_integral_value()})
        return f"/{_either(texts)}/" if texts else "NONE"
    if unit == 1:
        return rf"/-?[0-9]+(?:\.[0-9]{{1,{places}}}0*)?/" if places else r"/-?[0-9]+(?:\.0+)?/"
    for digits in range(places, places + _LONGEST_STEP + 1):
        if 10**digits % unit == 0 and 10**digits // unit <= _STEPS:
            return _by_last_digits(unit, digits, places)
    return None


def _listed(step: Decimal, low: Bound | None, high: Bound | None) -> list[Decimal] | None:
    """All multiples between two bounds, if they are few; None otherwise."""
    if low is None or high is None or (high.value - low.value) / step > _STEPS:
        return None
    first = (low.value / step).to_integral_value("ROUND_CEILING")
    multiples_of_step = [(first + n) * step for n in range(_STEPS + 2)]
    return [
        value
        for value in multiples_of_step
        if (value > low.value or (value == low.value and not low.open))
        and (value < high.value or (value == high.value and not high.open))
    ]


def _written(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return ("0" if text in ("-0", "") else text).replace(".", r"\.")


def _by_last_digits(unit: int, digits: int, places: int) -> str:
    """Numbers whose last `digits` digits, `places` of them behind the point, are a multiple of `unit`."""
    endings = [f"{value:0{digits}d}" for value in range(0, 10**digits, unit)] if digits else [""]
    options = []
    for ending in endings:
        whole, fraction = ending[: digits - places], ending[digits - places :].rstrip("0")
        point = rf"(?:\.{fraction}0*)" if fraction else (r"(?:\.0+)?" if places else "")
        options.append(f"[0-9]*{whole}{point}")
        if not whole.strip("0"):
            options.append(f"0{point}")
        elif stripped := whole.lstrip("0"):
            options.append(f"{stripped}{point}")
    return f"/-?{_either(options)}/"


def _positive(low: Bound, high: Bound | None) -> list[str]:
    """Alternatives for numbers from `low` (at least 0) to `high`, without a sign."""
    if high is not None and _is_above(low, high):
        return []
    if low.value >= _WIDE or (high is not None and 0 < high.value < _NARROW):
        return _with_exponent(low, high)
    if 0 < low.value < _LEAST_FRACTION:
        low = Bound(_LEAST_FRACTION)
    if high is None or high.value >= _WIDE:
        most = _EXPONENT if high is None else min(floor(high.value.log10()) - LONGEST - 1, _EXPONENT)
        return [_wide(most, zero=not low.open)] if low.value == 0 else [f"/{_at_least(low)}/"]
    return [f"(/{_at_least(low, len(str(int(high.value))))}/ & /{_at_most(high)}/)"]


def _with_exponent(low: Bound, high: Bound | None) -> list[str]:
    """Alternatives for numbers from `low` (at least 0) to `high`, with one digit before the point and an exponent."""
    options = ["/0/"] if low.value == 0 and not low.open else []
    least, most = low.value or _LEAST, _MOST if high is None else high.value
    first, last = least.adjusted(), most.adjusted()
    one_digit = rf"/[1-9]{_FRACTION}/"
    from_, to = f"/{_at_least(Bound(least.scaleb(-first)))}/", f"/{_at_most(Bound(most.scaleb(-last)))}/"
    if first == last:
        return [*options, f"(({one_digit} & {from_} & {to}) /{_power(first, last)}/)"]
    options.append(f"(({one_digit} & {from_}) /{_power(first, first)}/)")
    if last - first > 1:
        options.append(f"({one_digit} /{_power(first + 1, last - 1)}/)")
    return [*options, f"(({one_digit} & {to}) /{_power(last, last)}/)"]


def _power(first: int, last: int) -> str:
    below, above = _between(max(1, -last), -first), _between(max(0, first), last)
    return "[eE]" + _either([f"-{option}" for option in below] + [rf"\+?{option}" for option in above])


def _wide(exponent: int, *, zero: bool) -> str:
    """Numbers of any size, with an exponent of at most `exponent`."""
    powers = _either(_between(0, max(exponent, 0)))
    tail = rf"(?:[eE](?:\+?0{{0,2}}(?:{powers})|-0{{0,2}}(?:{_either(_between(0, _EXPONENT))})))?"
    whole = rf"[1-9][0-9]{{0,{LONGEST - 1}}}{_FRACTION}"
    if zero:
        return rf"/(?:0{_FRACTION}|{whole}){tail}/"
    return rf"/(?:0{_SOME_FRACTION}|{whole}){tail}/"


def _is_above(low: Bound, high: Bound) -> bool:
    return low.value > high.value or (low.value == high.value and (low.open or high.open))


def _split(value: Decimal) -> tuple[int, str]:
    """The integer part, and the digits behind the point without trailing zeros."""
    whole, _, fraction = f"{value:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _at_least(low: Bound, longest: int = LONGEST) -> str:
    """Numbers from `low`, with up to `longest` digits before the point."""
    whole, fraction = _split(low.value)
    longest = max(longest, len(str(whole)), LONGEST)
    larger = [f"{option}{_FRACTION}" for option in _between(whole + 1, 10**longest - 1)]
    return _either([*larger, f"{whole}{_fraction_at_least(fraction, low.open)}"])


def _fraction_at_least(digits: str, is_open: bool) -> str:
    if not digits:
        return _SOME_FRACTION if is_open else _FRACTION
    options, any_ = [], rf"[0-9]{{0,{LONGEST}}}"
    for place, digit in enumerate(digits):
        if digit < "9":
            options.append(f"{digits[:place]}[{int(digit) + 1}-9]{any_}")
    options.append(digits + (rf"0{{0,{LONGEST}}}[1-9]{any_}" if is_open else any_))
    return rf"\.{_either(options)}"


def _at_most(high: Bound) -> str:
    """Numbers from 0 to `high`."""
    whole, fraction = _split(high.value)
    smaller = [f"{option}{_FRACTION}" for option in _between(0, whole - 1)] if whole else []
    options, any_ = [], rf"[0-9]{{0,{LONGEST}}}"
    for place, digit in enumerate(fraction):
        before = fraction[:place]
        if digit > "0":
            options.append(f"{before}[0-{int(digit) - 1}]{any_}")
        if before:
            options.append(before)  # nothing behind it: zeros
    if not high.open:
        options.append(f"{fraction}0*")
    elif not fraction:
        return _either(smaller) if smaller else "[^\\x{0}-\\x{10FFFF}]"
    tail = rf"(?:\.{_either([option for option in options if option != '0*'] + ['0+'] * ('0*' in options))})?"
    return _either([*smaller, f"{whole}{tail}"])


def _between(low: int, high: int) -> list[str]:
    """Alternatives for the integers from `low` (at least 0) to `high`."""
    if low > high:
        return []
    options = []
    while low <= high:  # one number of digits at a time, or several of which every number is in the range
        size, whole = len(str(low)), len(str(high + 1)) - 1
        if low == 10 ** (size - 1) and whole >= size:
            options.append("[1-9]" + (f"[0-9]{{{size - 1},{whole - 1}}}" if whole > 1 else ""))
            low = 10**whole
            continue
        end = min(high, 10**size - 1)
        options += _of_one_length(str(low), str(end))
        low = end + 1
    return options


def _of_one_length(low: str, high: str) -> Iterator[str]:
    """Alternatives for the integers between two of the same number of digits."""
    if not low:
        yield ""
        return
    if low[0] == high[0]:
        yield from (low[0] + rest for rest in _of_one_length(low[1:], high[1:]))
        return
    size = len(low) - 1
    first, last = int(low[0]), int(high[0])
    if set(low[1:]) - {"0"}:
        yield from (low[0] + rest for rest in _of_one_length(low[1:], "9" * size))
        first += 1
    if set(high[1:]) - {"9"}:
        last -= 1
    if first <= last:
        yield (str(first) if first == last else f"[{first}-{last}]") + (f"[0-9]{{{size}}}" if size else "")
    if set(high[1:]) - {"9"}:
        yield from (high[0] + rest for rest in _of_one_length("0" * size, high[1:]))


def _either(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"
