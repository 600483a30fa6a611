"""Sets of characters: a regular expression's brackets, escapes and Unicode properties."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_ESCAPED = ((0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))  # escaped in a JSON string; DEL may be
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_FOLDED_ONE_BY_ONE = 3_000  # characters; of larger ranges only ASCII letters are folded
_ANY_QUOTED = r'(?:[^"\\\x00-\x1F\x7F]|\\["\\bfnrt]|\\u00(?:[01][0-9A-Fa-f]|7[Ff]))'

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CharClass:
    """A set of characters: inclusive, sorted `ranges` of code points, and Unicode `properties` in Rust's syntax.

    `negative`: all other characters. Only with properties, whose members are not known here; else `ranges` say it all.
    """

    ranges: tuple[Range, ...] = ()
    properties: tuple[str, ...] = ()
    negative: bool = False

    @staticmethod
    def of(code: int) -> CharClass:
        """A set of one character."""
        return CharClass(((code, code),))

    def __or__(self, other: CharClass) -> CharClass:
        """The union. That of negative sets is written as properties."""
        if self.negative or other.negative:
            properties = {f"[^{one._members()}]" if one.negative else one._members() for one in (self, other)}
            return CharClass((), tuple(sorted(properties - {""})))
        return CharClass(
            _united([*self.ranges, *other.ranges]), tuple({**dict.fromkeys(self.properties + other.properties)})
        )

    def complement(self) -> CharClass:
        """All other characters."""
        if self.properties:
            return CharClass(self.ranges, self.properties, not self.negative)
        ranges, at = [], 0
        for first, last in _united(self.ranges):
            if at < first:
                ranges.append((at, first - 1))
            at = last + 1
        if at <= LAST:
            ranges.append((at, LAST))
        return CharClass(tuple(ranges))

    def single(self) -> int | None:
        """The only character; None if there are more or fewer."""
        if self.properties or len(self.ranges) != 1 or self.ranges[0][0] != self.ranges[0][1]:
            return None
        return self.ranges[0][0]

    def folded(self) -> CharClass:
        """The same characters in upper and lower case."""
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
        """Whether a character is in the set; with properties, only right for ASCII characters that are not letters."""
        inside = any(first <= code <= last for first, last in self.ranges)
        category = unicodedata.category(chr(code))
        inside = inside or any(_has(name, category) for name in self.properties)
        return inside is not self.negative

    def first(self) -> str:
        """One character of the set, preferably a lower case letter or digit; "" if none is known."""
        if self.negative or not self.ranges:
            return ""
        plain = (code for code in (*range(0x61, 0x7B), *range(0x30, 0x3A), *range(0x41, 0x5B)) if code in self)
        return chr(next(plain, self.ranges[0][0]))

    @property
    def is_empty(self) -> bool:
        """Whether no text can have a character of the set: it has none, or only surrogates."""
        return not self.negative and not self._members()

    def bare(self) -> str:
        """The set as a regular expression."""
        if self.is_empty:
            return "[a--a]"
        return f"[{'^' if self.negative else ''}{self._members()}]"

    @lru_cache(4096)  # noqa: B019 - of frozen values
    def quoted(self) -> str:
        """The set as a regular expression for how its characters stand in a JSON string, escapes included."""
        if self == ANY_CHAR:
            return _ANY_QUOTED
        escaped = [code for first, last in _ESCAPED for code in range(first, last + 1) if code in self]
        options = [option for option in [self._unescaped(), *map(_escape, escaped)] if option]
        return options[0] if len(options) == 1 and not escaped else f"(?:{'|'.join(options)})"

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
    """Whether a Unicode property holds for ASCII characters of a category."""
    if property_.startswith("["):
        return True  # part of a negative set: rather too many
    name = property_[3:-1]
    return name in (category, category[0])


def _united(ranges: list[Range] | tuple[Range, ...]) -> tuple[Range, ...]:
    united: list[Range] = []
    for first, last in sorted(ranges):
        if united and first <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(united[-1][1], last))
        else:
            united.append((first, last))
    return tuple(united)


def _without_surrogates(first: int, last: int) -> list[Range]:
    low, high = _SURROGATES
    return [(a, b) for a, b in ((first, min(last, low - 1)), (max(first, high + 1), last)) if a <= b]


def _code(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:X}}}"


def _escape(code: int) -> str:
    """How JSON may escape a character, as a regular expression."""
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


def characters_of(name: str) -> CharClass | None:
    """The characters of a Unicode property, named as between the braces of `\\p{…}`; None for an unknown name."""
    kind, _, value = name.rpartition("=")
    if kind in ("", "gc", "General_Category"):
        if value in ("Any", "ASCII"):
            return CharClass(((0, 0x7F if value == "ASCII" else 0x10FFFF),))
        if value == "White_Space":
            return SPACE
        short = _CATEGORIES.get(value, value)
        if short in _CATEGORIES.values():
            return CharClass((), (rf"\p{{{short}}}",))
        if not kind and value in ("Alphabetic", "Lowercase", "Uppercase", "Alpha", "Lower", "Upper"):
            return CharClass((), (rf"\p{{{value}}}",))
    if kind in ("Script", "sc", "Script_Extensions", "scx") and value in _SCRIPTS:
        return CharClass((), (rf"\p{{{kind if len(kind) < 4 else 'sc' if kind == 'Script' else 'scx'}={value}}}",))
    return None


_SCRIPTS = frozenset(
    {
        "Arabic",
        "Armenian",
        "Bengali",
        "Bopomofo",
        "Common",
        "Cyrillic",
        "Devanagari",
        "Ethiopic",
        "Georgian",
        "Greek",
        "Gujarati",
        "Gurmukhi",
        "Han",
        "Hangul",
        "Hebrew",
        "Hiragana",
        "Inherited",
        "Kannada",
        "Katakana",
        "Khmer",
        "Lao",
        "Latin",
        "Malayalam",
        "Mongolian",
        "Myanmar",
        "Oriya",
        "Sinhala",
        "Tamil",
        "Telugu",
        "Thai",
        "Tibetan",
    }
)
_CATEGORIES = {
    "Letter": "L",
    "Cased_Letter": "LC",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me",
    "Number": "N",
    "Decimal_Number": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps",
    "Close_Punctuation": "Pe",
    "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk",
    "Other_Symbol": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp",
    "Other": "C",
    "Control": "Cc",
    "Format": "Cf",
}
