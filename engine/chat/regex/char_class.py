"""Sets of characters, as regular expressions have them between square brackets."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_ESCAPED = ((0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))  # never stand for themselves in a text of JSON
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_FOLDED_ONE_BY_ONE = 3_000  # characters of a range; beyond this only ASCII letters are looked at
_ANY_QUOTED = r'(?:[^"\\\x00-\x1F\x7F]|\\["\\bfnrt]|\\u00(?:[01][0-9A-Fa-f]|7[Ff]))'

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CharClass:
    """Characters by their codes, first and last of each range, sorted; and Unicode `properties` as Rust writes them.

    `negative`: all others are meant. That is so only where there are properties, whose characters are not known here.
    """

    ranges: tuple[Range, ...] = ()
    properties: tuple[str, ...] = ()
    negative: bool = False

    @staticmethod
    def of(code: int) -> CharClass:
        """One character."""
        return CharClass(((code, code),))

    def __or__(self, other: CharClass) -> CharClass:
        """The characters of both; of two negative classes with properties, more than that cannot be said."""
        if self.negative or other.negative:
            properties = {f"[^{each._members()}]" if each.negative else each._members() for each in (self, other)}
            return CharClass((), tuple(sorted(properties - {""})))
        return CharClass(
            _united([*self.ranges, *other.ranges]), tuple({**dict.fromkeys(self.properties + other.properties)})
        )

    def complement(self) -> CharClass:
        """All other characters."""
        if self.properties:
            return CharClass(self.ranges, self.properties, not self.negative)
        found, at = [], 0
        for first, last in _united(self.ranges):
            if at < first:
                found.append((at, first - 1))
            at = last + 1
        if at <= LAST:
            found.append((at, LAST))
        return CharClass(tuple(found))

    def single(self) -> int | None:
        """The only character, None if there are more or fewer."""
        if self.properties or len(self.ranges) != 1 or self.ranges[0][0] != self.ranges[0][1]:
            return None
        return self.ranges[0][0]

    def folded(self) -> CharClass:
        """The same, in upper and lower case."""
        more = []
        for first, last in self.ranges:
            codes = (
                range(first, last + 1)
                if last - first < _FOLDED_ONE_BY_ONE
                else range(max(first, 65), min(last, 122) + 1)
            )
            for code in codes:
                char = chr(code)
                more += [ord(other) for other in (char.lower(), char.upper()) if len(other) == 1]
        return CharClass(_united([*self.ranges, *((code, code) for code in more)]), self.properties, self.negative)

    def __contains__(self, code: int) -> bool:
        """Whether one of the characters that JSON escapes is meant."""
        inside = any(first <= code <= last for first, last in self.ranges)
        category = unicodedata.category(chr(code))
        inside = inside or any(_has(each, category) for each in self.properties)
        return inside is not self.negative

    def first(self) -> str:
        """One of the characters, a letter or digit if there is one; "" if none is known."""
        if self.negative or not self.ranges:
            return ""
        plain = (code for code in (*range(0x61, 0x7B), *range(0x30, 0x3A), *range(0x41, 0x5B)) if code in self)
        return chr(next(plain, self.ranges[0][0]))

    def bare(self) -> str:
        """The class as a regular expression."""
        return f"[{'^' if self.negative else ''}{self._members()}]"

    @lru_cache(4096)  # noqa: B019 - of frozen values
    def quoted(self) -> str:
        """The class as a regular expression for characters as they stand in a text of JSON."""
        if self == ANY_CHAR:
            return _ANY_QUOTED
        escaped = [code for first, last in _ESCAPED for code in range(first, last + 1) if code in self]
        ways = [way for way in [self._unescaped(), *map(_escape, escaped)] if way]
        return ways[0] if len(ways) == 1 and not escaped else f"(?:{'|'.join(ways)})"

    def _unescaped(self) -> str:
        if self.properties:
            return rf"[{self.bare()}--[\x00-\x1F\x22\x5C\x7F]]"
        outside = CharClass(_ESCAPED).complement().ranges
        both = [(max(a, c), min(b, d)) for a, b in self.ranges for c, d in outside if max(a, c) <= min(b, d)]
        return CharClass(tuple(both)).bare() if CharClass(tuple(both))._members() else ""

    def _members(self) -> str:
        codes = []
        for first, last in self.ranges:
            for low, high in _without_surrogates(first, last):
                codes.append(_code(low) if low == high else f"{_code(low)}-{_code(high)}")
        return "".join([*codes, *self.properties])


def _has(property_: str, category: str) -> bool:
    """Whether a property holds for a character of ASCII that is no letter, by its category."""
    if property_.startswith("["):
        return True  # of a negative class: better too much
    name = property_[3:-1]
    return name in (category, category[0])


def _united(ranges: list[Range] | tuple[Range, ...]) -> tuple[Range, ...]:
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _without_surrogates(first: int, last: int) -> list[Range]:
    low, high = _SURROGATES
    return [(a, b) for a, b in ((first, min(last, low - 1)), (max(first, high + 1), last)) if a <= b]


def _code(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:X}}}"


def _escape(code: int) -> str:
    """A character as JSON writes it behind a backslash."""
    high, low = divmod(code, 16)
    digit = f"{low:X}" if low < 10 else f"[{low:X}{low:x}]"
    long = "" if code in (0x22, 0x5C) else rf"\\u00{high:X}{digit}"
    short = rf"\\{_code(ord(_SHORT[code]))}" if code in _SHORT else ""
    return "|".join(filter(None, [short, long]))


ANY_CHAR = CharClass(((0, LAST),))
DIGIT = CharClass(((0x30, 0x39),))
WORD = CharClass(((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)))
LINE_ENDS = CharClass(((0xA, 0xA), (0xD, 0xD), (0x2028, 0x2029)))
SPACE = CharClass(
    (
        (0x9, 0xD),
        (0x20, 0x20),
        (0xA0, 0xA0),
        (0x1680, 0x1680),
        (0x2000, 0x200A),
        (0x2028, 0x2029),
        (0x202F, 0x202F),
        (0x205F, 0x205F),
        (0x3000, 0x3000),
        (0xFEFF, 0xFEFF),
    )
)
