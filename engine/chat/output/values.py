"""Values in notations other than JSON: Python literals, Gemma's quotes and bare keys, bare text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from engine.chat.output.json_calls import BadJSON, parse
from engine.chat.output.stream import Unreadable

NAME = r"[^\s:=,(){}\[\]'\"]+"
"""A pattern of bare names."""

_KEY = re.compile(NAME)
_WORD = re.compile(r"[^,()\[\]{}]+")
_WORDS_WITH_COMMAS = re.compile(r"""[^,()\[\]{}]+(?:,(?!\s*(?:[\w-]+\s*:|["'<)\]}]|\Z))[^,()\[\]{}]*)*""")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U00((?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "", "\\": "\\", "'": "'", '"': '"', "/": "/"}
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None, "nil": None}
_DEEPEST = 100


def python_value(text: str) -> Any:
    """The value of a Python literal. Raises Unreadable."""
    reader = Literals(text, bare_words=False)
    value = reader.value()
    if not reader.ended:
        raise Unreadable("more than a value")
    return value


class Literals:
    """A recursive-descent reader of values.

    `quotes` are Gemma's delimiters of raw strings, besides `'` and `"`; with them an unquoted value may contain commas
    that no key follows. `bare_words`: a word that is no number, boolean or null is a string, because models forget
    quotes; else it is a fault.
    """

    def __init__(self, text: str, *, quotes: tuple[str, ...] = (), bare_words: bool = True) -> None:
        self._text = text
        self._at = 0
        self._raw_quotes = quotes
        self._bare_words = bare_words
        self._depth = 0

    @property
    def ended(self) -> bool:
        """Whether only whitespace is left."""
        self._skip_space()
        return self._at == len(self._text)

    def accept(self, *marks: str) -> str:
        """Consume whitespace and the one of the marks that follows, and return that; "" if none does."""
        self._skip_space()
        for mark in marks:
            if self._text.startswith(mark, self._at):
                self._at += len(mark)
                return mark
        return ""

    def name(self) -> str:
        """Consume a bare name. Raises Unreadable."""
        self._skip_space()
        return self._match(_KEY)

    def pairs(self, separator: str, closing: str) -> dict[str, Any]:
        """Consume `key separator value` up to the closing bracket. Raises Unreadable."""
        members = {}
        while not self.accept(closing):
            key = self._string(quote) if (quote := self.accept(*self._raw_quotes, '"', "'")) else self.name()
            if not self.accept(separator):
                raise Unreadable(f"no {separator} after {key}")
            members[key] = self._value(_WORDS_WITH_COMMAS if self._raw_quotes else _WORD)
            self._item_ends(closing)
        return members

    def value(self) -> Any:
        """Consume one value. Raises Unreadable."""
        return self._value(_WORD)

    def _value(self, word: re.Pattern[str]) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("too deep")
        try:
            match self.accept(*self._raw_quotes, '"', "'", "{", "[", "("):
                case "{":
                    return self.pairs(":", "}")
                case "[":
                    return self._items("]")
                case "(":
                    return self._items(")")
                case "":
                    return self._word(self._match(word).strip())
                case quote:
                    return self._string(quote)
        finally:
            self._depth -= 1

    def _items(self, closing: str) -> list[Any]:
        items = []
        while not self.accept(closing):
            items.append(self.value())
            self._item_ends(closing)
        return items

    def _item_ends(self, closing: str) -> None:
        if not self.accept(",") and not self._text.startswith(closing, self._at):
            raise Unreadable(f"no comma or {closing}")

    def _string(self, quote: str) -> str:
        start = self._at
        raw = quote in self._raw_quotes
        end = re.compile(re.escape(quote) if raw else rf"(?:\\.|[^\\{quote}])*{quote}", re.DOTALL)
        match = end.search(self._text, start) if raw else end.match(self._text, start)
        if match is None:
            raise Unreadable("a string does not end")
        self._at = match.end()
        text = self._text[start : self._at - len(quote)]
        if raw:
            return text
        return _ESCAPE.sub(_unescape, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _word(self, word: str) -> Any:
        if word in _WORDS:
            return _WORDS[word]
        try:
            return parse(word)
        except BadJSON:
            if not self._bare_words:
                raise
            return word

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise Unreadable("a name or value is missing")
        self._at = match.end()
        return match[0]

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[4], match[0])


# Bare text, turned into a value of the type in the tool's schema.

JSON_TYPES = frozenset({"boolean", "integer", "number", "array", "object"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def typed(text: str, types: frozenset[str]) -> Any:
    """`text` as a value of the first of the types that it fits, in the order boolean, integer, number, array, object.

    It stays a string if no type is declared or fits, but `null` is always None, and a text that can only be a boolean
    is False unless it is `true`.
    """
    if text.lower() == "null":
        return None
    for kind, read in _READERS.items():
        if kind in types:
            try:
                return read(text)
            except ValueError:
                continue
    return False if types == {"boolean"} else text


def _boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false"):
        raise ValueError(text)
    return lower == "true"


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(text)
    return int(value) if value.is_integer() else value


def _array(text: str) -> list[Any]:
    if not isinstance(value := _composite(text), list):
        raise ValueError(text)
    return value


def _object(text: str) -> dict[str, Any]:
    if not isinstance(value := _composite(text), dict):
        raise ValueError(text)
    return value


def _composite(text: str) -> Any:
    """A value in JSON or Python's notation, which some templates show to the model."""
    try:
        return parse(text)
    except BadJSON:
        return python_value(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _array,
    "object": _object,
}
"""In the order in which they are tried, the strictest first."""
