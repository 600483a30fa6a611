"""Parses GBNF, the grammars of llama.cpp, into trees of `engine.chat.regex.nodes`."""

from __future__ import annotations

from collections.abc import Mapping

from engine.chat.regex.char_class import ANY_CHAR, CharClass
from engine.chat.regex.nodes import EMPTY, Node, Ref, Repeat, cat, either

MOST_REPEATS = 10_000  # in one quantifier
DEEPEST = 50  # nested groups
ROOT = "root"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_BLANK, _NEWLINE = frozenset(" \t"), frozenset("\r\n")
_CONTROLS = {"t": 9, "r": 13, "n": 10}
_CODES = {"x": 2, "u": 4, "U": 8}  # hexadecimal digits behind an escape


class BadGrammar(ValueError):
    """The text is no grammar. The message is for users and begins with the line where it is wrong."""


Rules = Mapping[str, Node]
"""The bodies of a grammar's rules by their names, `root` among them."""


def parse(text: str) -> Rules:
    """The rules of a grammar, all references defined. Raises BadGrammar."""
    parser = _Parser(text)
    rules = parser.parse()
    if ROOT not in rules:
        raise BadGrammar(f"it has no rule {ROOT}")
    for name, at in parser.used.items():
        if name not in rules:
            raise parser.error(f"there is no rule {name[:80]}", at)
    return rules


class _Parser:
    """A recursive descent parser; `_at` is the index of the next character. `used`: where each name is used first."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.used: dict[str, int] = {}

    def parse(self) -> dict[str, Node]:
        """All rules."""
        rules: dict[str, Node] = {}
        self._skip_space(newlines=True)
        while self._at < len(self._text):
            start = self._at
            name = self._name()
            if not name:
                raise self.error("a rule's name is missing")
            self._skip_space(newlines=False)
            self._expect("::=")
            self._skip_space(newlines=True)
            if name in rules:
                raise self.error(f"the rule {name[:80]} is defined twice", start)
            rules[name] = self._alternatives(nested=False)
        return rules

    def _alternatives(self, *, nested: bool) -> Node:
        options = [self._sequence(nested=nested)]
        while True:
            self._skip_space(newlines=nested or self._goes_on())
            if not self._skip("|"):
                break
            self._skip_space(newlines=True)
            options.append(self._sequence(nested=nested))
        if not nested:
            if self._at < len(self._text) and self._peek() not in _NEWLINE:
                raise self.error(f"unexpected {self._peek()!r}")
            self._skip_space(newlines=True)
        return either(options)

    def _goes_on(self) -> bool:
        """Whether the next line goes on with an alternative."""
        start = self._at
        self._skip_space(newlines=True)
        goes_on = self._peek() == "|"
        self._at = start
        return goes_on

    def _sequence(self, *, nested: bool) -> Node:
        parts: list[Node] = []
        while (item := self._item()) is not None:
            self._skip_space(newlines=nested)
            while (times := self._quantifier()) is not None:
                least, most = times
                item = EMPTY if most == 0 else item if times == (1, 1) else Repeat(item, least, most)
                self._skip_space(newlines=nested)
            parts.append(item)
        return cat(parts)

    def _item(self) -> Node | None:
        """The next item; None if there is none."""
        char = self._peek()
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if self._skip("."):
            return ANY_CHAR
        if char in ("<", "!"):
            raise self.error("tokens of the model cannot be named here")
        start = self._at
        name = self._name()
        if not name:
            return None
        self.used.setdefault(name, start)
        return Ref(name)

    def _literal(self) -> Node:
        self._at += 1
        codes = []
        while not self._skip('"'):
            codes.append(self._char())
        return cat(CharClass.of(code) for code in codes)

    def _class(self) -> Node:
        start = self._at
        self._at += 1
        negative = self._skip("^")
        ranges = []
        while not self._skip("]"):
            first = last = self._char()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._char()
            if first > last:
                raise self.error("a range of characters is in reverse", start)
            ranges.append((first, last))
        members = CharClass() | CharClass(tuple(ranges))
        members = members.complement() if negative else members
        if not members.ranges:
            raise self.error("a set of characters is empty", start)
        return members

    def _group(self) -> Node:
        if self._depth >= DEEPEST:
            raise self.error("groups are nested too deeply")
        start = self._at
        self._at += 1
        self._depth += 1
        self._skip_space(newlines=True)
        body = self._alternatives(nested=True)
        self._skip_space(newlines=True)
        if not self._skip(")"):
            raise self.error("a parenthesis is not closed", start)
        self._depth -= 1
        return body

    def _quantifier(self) -> tuple[int, int | None] | None:
        """The least and the most of a repetition, None for no upper limit; None if there is none."""
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(sign):
                return times
        start = self._at
        if not self._skip("{"):
            return None
        least = self._number()
        most: int | None = least
        if self._skip(","):
            self._skip_space(newlines=True)
            most = None if self._peek() == "}" else self._number()
        self._expect("}")
        if max(least, most or 0) > MOST_REPEATS:
            raise self.error(f"something repeats more than {MOST_REPEATS} times", start)
        if most is not None and most < least:
            raise self.error("something repeats between more and fewer times", start)
        return least, most

    def _number(self) -> int:
        self._skip_space(newlines=True)
        start = self._at
        while self._peek() in tuple("0123456789") and self._at - start < 10:
            self._at += 1
        if self._at == start:
            raise self.error("a number is missing")
        number = int(self._text[start : self._at])
        self._skip_space(newlines=True)
        return number

    def _char(self) -> int:
        """A character of a literal or a set, which may be escaped."""
        if self._at >= len(self._text):
            raise self.error("a text or a set of characters is not closed")
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return ord(char)
        char = self._peek()
        self._at += 1
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in _CODES:
            digits = self._text[self._at : self._at + _CODES[char]]
            self._at += len(digits)
            if len(digits) == _CODES[char] and set(digits) <= set("0123456789abcdefABCDEF"):
                code = int(digits, 16)
                if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
                    return code
        elif char in tuple('\\"[]-^/'):
            return ord(char)
        raise self.error(f"unknown escape \\{char}", self._at - 1)

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _NAME:
            self._at += 1
        return self._text[start : self._at]

    def _skip_space(self, *, newlines: bool) -> None:
        """Skip blanks and comments, and line ends if `newlines`."""
        while (char := self._peek()) and (char in _BLANK or char == "#" or (newlines and char in _NEWLINE)):
            if char == "#":
                while self._at < len(self._text) and self._text[self._at] not in _NEWLINE:
                    self._at += 1
            else:
                self._at += 1

    def _expect(self, sign: str) -> None:
        if not self._skip(sign):
            raise self.error(f"{sign} is missing")

    def _skip(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def error(self, message: str, at: int | None = None) -> BadGrammar:
        """An error in the line of this index, or in that of the next character."""
        line = self._text.count("\n", 0, self._at if at is None else at) + 1
        return BadGrammar(f"line {line}: {message}")
