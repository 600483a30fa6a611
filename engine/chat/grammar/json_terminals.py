"""Terminals of a JSON grammar: strings, numbers and listed values, each defined once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.chat.regex.assertions import search
from engine.chat.regex.char_class import ANY_CHAR
from engine.chat.regex.ecma import parse
from engine.chat.regex.nodes import Lengths, Untranslatable, example, intersect_lengths, lengths, terminal
from engine.chat.regex.numbers import Bound, integer, multiples, needs_exponent, number
from engine.chat.regex.string_formats import FORMATS
from engine.chat.schema.reader import LARGEST, UnusableSchema, ValueSet

# Patterns of strings without the texts that a format's reader would take for markup.


def can_be_without(reserved: Sequence[str]) -> bool:
    """Whether `without` can make a pattern for these texts."""
    return len({text[0] for text in reserved}) == 1 and all(text.count(text[0]) == 1 for text in reserved)


def without(reserved: Sequence[str]) -> str:
    """A pattern of strings without the reserved texts, which share a first character that they have only once."""
    (first,) = {text[0] for text in reserved}
    return f"[^{_code(first)}]*({_code(first)}{_rest(first, [text[1:] for text in reserved])})*"


def _rest(first: str, tails: Sequence[str]) -> str:
    """What may follow a common beginning of reserved texts, up to the next `first`; `tails` are their rests."""
    following = dict.fromkeys(tail[0] for tail in tails)
    others = "".join(map(_code, [first, *following]))
    ways = ["", f"[^{others}][^{_code(first)}]*"]
    for letter in following:
        behind = [tail[1:] for tail in tails if tail[0] == letter]
        if all(behind):
            ways.append(_code(letter) + _rest(first, behind))
    return f"({'|'.join(ways)})"


def _code(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):X}}}"


MOST_REPEATS = 10_000  # elements, properties or characters that can be counted
_LARGEST_GRAMMAR = 4 * LARGEST  # characters of all rules and terminals
_CHAR = ANY_CHAR.quoted()
ANY_TEXT = f'/"{_CHAR}*"/'
ANY_NAME = f'/"{_CHAR}{{0,100}}"/'
"""The name of a property that no schema lists: some models would never end it."""

_LONGEST_EXAMPLE = 200  # characters
_VAST = 10**25  # whole numbers beyond it are written with an exponent
_REMAINDERS = 100  # the largest number whose multiples are told by counting

Drop = Callable[[str], None]
"""Called with a keyword that cannot be enforced."""


class JsonTerminals:
    """Names and defines terminals. No string contains one of the `reserved` texts."""

    def __init__(self, prefix: str, reserved: Sequence[str], drop: Drop) -> None:
        self._prefix = prefix
        self._reserved = [json.dumps(text, ensure_ascii=False)[1:-1] for text in reserved]
        self._drop = drop
        self._names: dict[str, str] = {}
        self.examples: dict[str, None] = {}  # strings that match patterns, escaped as in JSON
        self._size = 0

    def definitions(self) -> dict[str, str]:
        """All terminals by their names."""
        return {name: body for body, name in self._names.items()}

    def sign(self, pattern: str) -> str:
        """A terminal by its regular expression."""
        return self.named(f"/{pattern}/")

    def named(self, body: str) -> str:
        """The name of the terminal with this definition."""
        if body not in self._names:
            self.grow(body)
            self._names[body] = f"{self._prefix}_{len(self._names)}"
        return self._names[body]

    def grow(self, body: str) -> None:
        """Add to the size of the grammar. Raises UnusableSchema if it becomes too large."""
        self._size += len(body)
        if self._size > _LARGEST_GRAMMAR:
            raise UnusableSchema("it is too large")

    def string(self, values: ValueSet) -> str:
        """The terminal of a string; "" if no string matches."""
        least, most = values.min_length, values.max_length
        if most is not None and most < least:
            return ""
        for key, value in (("minLength", least), ("maxLength", most or 0)):
            if value > MOST_REPEATS:
                self._drop(key)
        least, most = (0 if least > MOST_REPEATS else least), (None if (most or 0) > MOST_REPEATS else most)
        limits = [f'/"{_CHAR}{times(least, most)}"/']
        spans: list[Lengths | None] = [(least, most)]
        for pattern in [*(FORMATS[name] for name in values.formats if name in FORMATS), *values.patterns]:
            try:
                body = self.matching(pattern)
                if not body:
                    raise Untranslatable("no text matches it")
            except Untranslatable as error:
                self._drop(f"pattern {pattern[:80]!r}: {error}")
                continue
            limits.append(body)
            spans.append(lengths(search(pattern)))
        if intersect_lengths(spans) is None:
            return ""
        known = intersect_lengths(spans[1:])
        if known is not None and known[1] is not None and known == intersect_lengths(spans):
            plain = not any("~(" in each for each in limits)  # which says itself what a character is
            limits[:1] = [] if plain else [ANY_TEXT]  # the library gives up where long counts meet others
        if texts := [text for text in values.excluded if text.startswith('"')]:
            limits.append(f"~({any_of(texts)})")
        return self.text(limits)

    def text(self, limits: Sequence[str]) -> str:
        """The terminal of strings that match all limits, which are bodies of terminals."""
        if self._reserved:
            limits = [*limits, f'/"{without(self._reserved)}"/']
        return self.named(" & ".join(limits))

    def matching(self, pattern: str) -> str:
        """The body of a terminal for strings in which a pattern is found; "" if there are none.

        Raises Untranslatable.
        """
        node = search(pattern)
        if text := example(parse(pattern))[:_LONGEST_EXAMPLE]:
            self.examples[json.dumps(text, ensure_ascii=False)[1:-1]] = None
        if lengths(node) is None:
            return ""
        return rf'("\"" {terminal(node, quoted=True)} "\"")'

    def listed(self, values: ValueSet) -> list[str]:
        """The listed values as JSON; those with reserved texts only if there are no others."""
        texts = [text for text in values.listed or () if _fits(json.loads(text), values, text)]
        return [text for text in texts if not any(reserved in text for reserved in self._reserved)] or texts

    def number(self, values: ValueSet) -> str:
        """The terminal of a number; "" if no number matches."""
        low, high = values.low, values.high
        limit = self._range(values)
        if limit is None:
            return ""
        parts = [limit]
        with_exponent = _is_vast(low, high) if values.whole else needs_exponent(low, high)
        for step in values.steps:
            if with_exponent:  # which the numbers of a step do not have
                self._drop("multipleOf")
                continue
            steps = multiples(step, low, high, whole=values.whole)
            if steps == "NONE":
                return ""
            if steps is not None:
                parts.append(f"({steps})")
            else:
                self._drop("multipleOf")
        if texts := [text for text in values.excluded if text[0] in "-0123456789"]:
            parts.append(f"~({any_of(texts)})")
        return self.named(" & ".join(parts))

    def _range(self, values: ValueSet) -> str | None:
        low, high = values.low, values.high
        if values.whole and not _is_vast(low, high):
            low = None if low is not None and low.value < -_VAST else low
            high = None if high is not None and high.value > _VAST else high
            limit = integer(_ceiling(low), _floor(high))
            return None if limit is None else f"/{limit}/"
        limit = number(low, high)
        if limit is None and low is not None and high is not None and low.value < high.value:
            if values.whole and (exact := integer(_ceiling(low), _floor(high))) is not None:
                return f"/{exact}/"  # in digits, which readers of large integers take
            self._drop("maximum: no float64 is between it and the minimum")
            return number(low, None)
        return limit


def times(least: int, most: int | None) -> str:
    return "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"


def quoted(text: str) -> str:
    """A text in quotes, all of it literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def any_of(texts: Iterable[str]) -> str:
    return " | ".join(map(quoted, texts))


def counted_step(values: ValueSet) -> int | None:
    """The step of values that are all multiples (or all positive ones) of a number, if no terminal expresses them."""
    low, step = values.low, values.steps[0] if len(values.steps) == 1 else None
    if step is None or step != step.to_integral_value() or step > _REMAINDERS or values.high is not None:
        return None
    if low is not None and low.value != 0 and (low.value != 1 or low.open):
        return None
    return None if multiples(step, low, None, whole=values.whole) else int(step)


def _is_vast(low: Bound | None, high: Bound | None) -> bool:
    return (low is not None and low.value > _VAST) or (high is not None and high.value < -_VAST)


def _ceiling(bound: Bound | None) -> int | None:
    if bound is None:
        return None
    whole = int(bound.value.to_integral_value("ROUND_CEILING"))
    return whole + (bound.open and whole == bound.value)


def _floor(bound: Bound | None) -> int | None:
    if bound is None:
        return None
    whole = int(bound.value.to_integral_value("ROUND_FLOOR"))
    return whole - (bound.open and whole == bound.value)


def _fits(value: Any, values: ValueSet, text: str) -> bool:
    """Whether a listed value also matches the other keywords."""
    if text in values.excluded:
        return False
    match value:
        case None:
            return "null" in values.kinds
        case bool():
            return "boolean" in values.kinds
        case int() | float():
            return "number" in values.kinds and _in_range(value, values)
        case str():
            most = values.max_length
            return "string" in values.kinds and values.min_length <= len(value) and (most is None or len(value) <= most)
        case list():
            most = values.max_items
            return "array" in values.kinds and values.min_items <= len(value) and (most is None or len(value) <= most)
    return "object" in values.kinds and all(name in value for name in values.required)


def _in_range(value: float, values: ValueSet) -> bool:
    low, high = values.low, values.high
    if values.whole and value != value // 1:
        return False
    if low is not None and not (value > low.value or (value == low.value and not low.open)):
        return False
    return high is None or value < high.value or (value == high.value and not high.open)
